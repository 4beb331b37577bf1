package f5

import (
	"bytes"
	"strings"

	"capfleet/internal/pcap/layers"
)

// FileInfo is the description that a BIG-IP puts before the packets.
type FileInfo struct {
	CommandLine string `json:"command_line"`
	Version     string `json:"version"`
	Host        string `json:"host"`
	Platform    string `json:"platform"`
	Product     string `json:"product"`
	Session     string `json:"session,omitempty"`
}

// fileInfoHeader is the Ethernet header and the text with its NUL.
const fileInfoHeader = 28

// ReadFileInfo reads the description; false where the frame is none.
func ReadFileInfo(data []byte) (info FileInfo, ok bool) {
	if !layers.IsF5FileInfo(data) || len(data) < fileInfoHeader {
		return info, false
	}
	for _, field := range bytes.Split(data[fileInfoHeader:], []byte{0}) {
		if len(field) == 0 {
			break
		}
		name, value, _ := strings.Cut(strings.ToValidUTF8(string(field), "\uFFFD"), ": ")
		switch name {
		case "CMD":
			info.CommandLine = value
		case "VER":
			info.Version = value
		case "HOST":
			info.Host = value
		case "PLAT":
			info.Platform = value
		case "PROD":
			info.Product = value
		case "SESS":
			info.Session = value
		}
	}
	return info, true
}
