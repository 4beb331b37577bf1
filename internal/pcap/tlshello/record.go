package tlshello

// Records.
const (
	recordHeader    = 5
	recordAlert     = 21
	recordHandshake = 22
	// maxRecord is the largest of any version, with what encryption may add.
	maxRecord = 1<<14 + 2048
)

// Handshake messages.
const (
	messageHeader = 4
	messageClient = 1
	messageServer = 2
)

func recordLength(b []byte) int { return int(b[3])<<8 | int(b[4]) }

// handshake gives the first handshake message, with its header, out of the
// records at the start of b, and where in b it ends: all of it, or what is there.
// False means that there is something else.
func handshake(b []byte) (message []byte, end int, ok bool) {
	whole := len(b)
	for len(b) >= recordHeader {
		size := recordLength(b)
		if b[0] != recordHandshake || b[1] != 3 || size == 0 || size > maxRecord {
			return nil, 0, false
		}
		part := b[recordHeader:min(len(b), recordHeader+size)]
		if message == nil {
			message = part[:len(part):len(part)] // more is appended elsewhere
		} else {
			message = append(message, part...)
		}
		if len(message) >= messageHeader {
			total := messageHeader + messageLength(message)
			if total > maxHello {
				return nil, 0, false
			}
			if len(message) >= total {
				return message[:total], whole - len(b) + recordHeader + len(part) - (len(message) - total), true
			}
		}
		b = b[recordHeader+len(part):]
	}
	return message, whole, true
}

func messageLength(message []byte) int {
	return int(message[1])<<16 | int(message[2])<<8 | int(message[3])
}

// parseAlert reads an alert that is not encrypted.
func parseAlert(b []byte) Hello {
	if recordLength(b) != 2 {
		return Hello{}
	}
	h := Hello{Kind: Alert, Size: min(len(b), recordHeader+2)}
	if len(b) >= recordHeader+2 {
		h.Complete, h.Level, h.Description = true, b[5], b[6]
		if h.Level != 1 && h.Level != 2 {
			return Hello{}
		}
	}
	return h
}

// Messages of SSL 2.0: a length of two bytes with the top bit set, then the type.
const (
	ssl2Fixed       = 11 // up to where the variable part begins
	ssl2Client      = 1
	ssl2Server      = 4
	ssl2Cipher      = 3 // size of one
	ssl2ServerFixed = 13
)

// parseSSL2 reads a hello in the form of SSL 2.0, in which clients also offered
// later versions.
func parseSSL2(b []byte) Hello {
	if len(b) < ssl2Fixed {
		return Hello{}
	}
	size := int(b[0]&0x7f)<<8 | int(b[1])
	complete := len(b) >= size+2
	pair := func(at int) int { return int(b[at])<<8 | int(b[at+1]) }
	switch b[2] {
	case ssl2Client:
		version := Version(pair(3)) //nolint:gosec // two bytes
		ciphers, session, challenge := pair(5), pair(7), pair(9)
		if version != SSL2 && version>>8 != 3 || ciphers == 0 || ciphers%ssl2Cipher != 0 ||
			session != 0 && session != 16 || challenge < 16 || challenge > 32 || size != ssl2Fixed-2+ciphers+session+challenge {
			return Hello{}
		}
		return Hello{Kind: Client, Complete: complete, Size: min(len(b), size+2), Field: version, FieldKnown: true, extensionsDone: true}
	case ssl2Server:
		if len(b) < ssl2ServerFixed || Version(pair(5)) != SSL2 || size != ssl2ServerFixed-2+pair(7)+pair(9)+pair(11) { //nolint:gosec // two bytes
			return Hello{}
		}
		return Hello{Kind: Server, Complete: complete, Size: min(len(b), size+2), Field: SSL2, FieldKnown: true, extensionsDone: true}
	}
	return Hello{}
}
