// Package device holds what the rest of the program knows about an appliance:
// its place in the inventory, the definition of its platform, and the seams
// through which everything talks to it.
//
//   - Device is one appliance as the inventory resolved it; it is plain data and
//     travels inside a job, so that a running job keeps what it was resolved to.
//   - Definition is what is believed about a platform (prompts, modes, commands,
//     report layouts). It is data that an operator can override, because much of
//     it is inferred from documents and not from a real appliance.
//   - Conn is one authenticated connection; Session is a usable command line on
//     it; Driver opens the second on the first for one platform.
//
// The appliance is authoritative about itself: what it prints wins over the
// inventory and over the definition. Everything it prints is untrusted.
package device

import (
	"time"

	"capfleet/internal/secret"
)

// Device is one appliance, fully resolved: groups are applied, defaults filled
// in, secrets still references. It is immutable after loading.
type Device struct {
	Name     string            `json:"name"`
	Platform string            `json:"platform"`
	Host     string            `json:"host"` // name or address without brackets
	Port     int               `json:"port"`
	Site     string            `json:"site,omitempty"`
	Timezone string            `json:"timezone,omitempty"` // of the site, IANA name
	Groups   []string          `json:"groups,omitempty"`   // sorted
	Labels   map[string]string `json:"labels,omitempty"`
	Covers   []string          `json:"covers,omitempty"` // links this device watches
	HAPeer   string            `json:"ha_peer,omitempty"`
	BMC      *BMC              `json:"bmc,omitempty"`

	Credentials Credentials `json:"credentials"`
	SSH         SSH         `json:"ssh"`
	// Jump is the chain of hosts to go through, nearest to us first. A jump host
	// that is itself a device brings its own credentials and settings.
	Jump []Hop `json:"jump,omitempty"`
	// KnownHosts is the absolute path of the OpenSSH known_hosts file.
	KnownHosts string `json:"known_hosts"`
}

// Hop is one jump host.
type Hop struct {
	Name        string      `json:"name"` // device name, or user@host:port as written
	Host        string      `json:"host"`
	Port        int         `json:"port"`
	Credentials Credentials `json:"credentials"`
	SSH         SSH         `json:"ssh"`
}

// Credentials says who logs in and where the secrets are; never the secrets.
type Credentials struct {
	Name       string     `json:"name"` // entry of the inventory
	Username   string     `json:"username"`
	Password   secret.Ref `json:"password,omitzero"`
	PrivateKey secret.Ref `json:"private_key,omitzero"`
	Passphrase secret.Ref `json:"passphrase,omitzero"` // of the private key
	// Certificate is an OpenSSH user certificate of the private key. It is no
	// secret, but it is renewed like one and so may be in the same places.
	Certificate secret.Ref `json:"certificate,omitzero"`
	// Agent uses the SSH agent named by SSH_AUTH_SOCK.
	Agent bool `json:"agent,omitempty"`
	// Enable is the password of the platform's enable mode, where it asks for one.
	Enable secret.Ref `json:"enable,omitzero"`
}

// SSH holds the settings of one device's connection. Zero values mean the
// defaults of DefaultSSH; the inventory fills them in.
type SSH struct {
	// MaxSessions is how many sessions (CLI, exec, SFTP) may be open on one
	// connection. OpenSSH's own default is 10.
	MaxSessions    int           `json:"max_sessions,omitempty"`
	ConnectTimeout time.Duration `json:"connect_timeout,omitempty"` // dial, handshake and login together
	CommandTimeout time.Duration `json:"command_timeout,omitempty"` // one command, unless the definition gives more
	Keepalive      time.Duration `json:"keepalive,omitempty"`       // interval; three unanswered end the connection
	// LegacyAlgorithms allows key exchanges, ciphers and host keys that are no
	// longer considered safe. Only ever for this one device.
	LegacyAlgorithms bool `json:"legacy_algorithms,omitempty"`
}

// DefaultSSH is used where the inventory is silent.
func DefaultSSH() SSH {
	return SSH{
		MaxSessions:    8,
		ConnectTimeout: 20 * time.Second,
		CommandTimeout: 60 * time.Second,
		Keepalive:      15 * time.Second,
	}
}

// BMC is the baseboard management controller beside a device.
type BMC struct {
	Host        string      `json:"host"`
	Port        int         `json:"port,omitempty"`
	Protocol    string      `json:"protocol"` // auto, supermicro_web, ipmi_lan, redfish
	Credentials Credentials `json:"credentials"`
	// TLSPins are SHA-256 fingerprints of the certificates that its web server may
	// show, 64 hexadecimal digits in capitals.
	TLSPins []string `json:"tls_pins,omitempty"`
	// PlainHTTP sends the password in the clear: its web server has no TLS.
	PlainHTTP bool `json:"plain_http,omitempty"`
	// Jump is the chain of hosts to go through, nearest to us first, as a device's. It
	// is the BMC's own: the device's is not used.
	Jump []Hop `json:"jump,omitempty"`
	// KnownBMCs is the absolute path of the file of certificates that were pinned
	// by `device trust --bmc`. It need not exist.
	KnownBMCs string `json:"known_bmcs"`
}
