package pcap

import "strconv"

// LinkType says how the bytes of a packet begin: a number of the registry at
// tcpdump.org/linktypes.html.
type LinkType uint32

// The link types that package layers looks into, and those with packets of
// unusual size.
const (
	LinkNull      LinkType = 0 // BSD loopback, address family in the host's byte order
	LinkEthernet  LinkType = 1
	linkRawBSD    LinkType = 12 // DLT_RAW of most systems, which some writers put into files
	linkRawOpen   LinkType = 14 // the same of OpenBSD
	LinkRaw       LinkType = 101
	LinkLoop      LinkType = 108 // OpenBSD loopback, address family in network byte order
	LinkLinuxSLL  LinkType = 113
	LinkIPv4      LinkType = 228
	LinkIPv6      LinkType = 229
	linkDBus      LinkType = 231
	linkUSBPcap   LinkType = 249
	LinkLinuxSLL2 LinkType = 276
	linkEBHSCR    LinkType = 279
)

// String gives a short name, or the number.
func (l LinkType) String() string {
	switch l {
	case LinkNull:
		return "null"
	case LinkEthernet:
		return "ethernet"
	case LinkRaw:
		return "raw"
	case LinkLoop:
		return "loop"
	case LinkLinuxSLL:
		return "linux_sll"
	case LinkIPv4:
		return "ipv4"
	case LinkIPv6:
		return "ipv6"
	case LinkLinuxSLL2:
		return "linux_sll2"
	}
	return "linktype_" + strconv.FormatUint(uint64(l), 10)
}

// canonical gives the number of the registry for what writers put into files.
func (l LinkType) canonical() LinkType {
	if l == linkRawBSD || l == linkRawOpen {
		return LinkRaw
	}
	return l
}

// maxPacket is the largest captured length that is believed: what libpcap and
// Wireshark take.
func (l LinkType) maxPacket() uint32 {
	switch l {
	case linkDBus, linkUSBPcap:
		return 128 << 20
	case linkEBHSCR:
		return 32 << 20
	}
	return 256 << 10
}
