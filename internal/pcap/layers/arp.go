package layers

import "net/netip"

// ARP is an ARP message. Addresses are given for IPv4 over Ethernet alone.
type ARP struct {
	Present                bool
	Operation              uint16
	SenderMAC, TargetMAC   [6]byte
	SenderAddr, TargetAddr netip.Addr
}

const (
	arpFixed     = 8
	arpEthernet  = 1
	lastARPKnown = 25 // the registry of IANA assigns 1 to 25 without a gap
)

func (d *decoder) arp(off int) {
	f := d.f
	f.Network = off
	if !d.has(off, arpFixed, BadARP) {
		return
	}
	b := f.Data[off:]
	hardware, protocol, hwLen, protoLen, op := be16(b), be16(b[2:]), int(b[4]), int(b[5]), be16(b[6:])
	f.ARP.Present, f.ARP.Operation = true, op
	if op == 0 || op > lastARPKnown {
		f.Oddity |= UnknownARP
	}
	ethernet, ipv4 := hardware == arpEthernet, protocol == EtherIPv4
	if ethernet && hwLen != 6 || ipv4 && protoLen != 4 {
		f.Oddity |= BadARP
		return
	}
	if !d.has(off, arpFixed+2*(hwLen+protoLen), BadARP) || !ethernet || !ipv4 {
		return
	}
	f.ARP.SenderMAC, f.ARP.TargetMAC = [6]byte(b[8:]), [6]byte(b[18:])
	f.ARP.SenderAddr, f.ARP.TargetAddr = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
}
