package sel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

const (
	// CertificatesName is the name of the operation that shows certificates.
	CertificatesName = "bmccerts"
	// CertificateType is the type of a CertificateRow, where a host key has
	// ssh-ed25519 and the like.
	CertificateType = "x509"
)

// Statuses of a certificate, as those of a host key: compared with the pins of
// the inventory and of the file of pins.
const (
	Pinned  = "pinned"
	Unknown = "unknown" // nothing is pinned for this BMC
	Changed = "changed" // another certificate is
)

// CertificateRow is the certificate that a BMC's web server shows.
type CertificateRow struct {
	Device    string    `json:"device"`
	Host      string    `json:"host"` // as the file of pins names it
	Type      string    `json:"type"`
	SHA256    string    `json:"sha256"`
	PublicKey string    `json:"public_key"` // DER in base64
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Status    string    `json:"status"` // before anything is pinned
}

type certificates struct {
	through Through
	pins    pinFiles
}

var _ operation.Operation = (*certificates)(nil)

// NewCertificates gives the operation "bmccerts", which shows the certificates of
// BMCs for a person to compare and have pinned. It sends no credential and pins
// nothing. Its spec is empty.
func NewCertificates(through Through) operation.Operation { return &certificates{through: through} }

// Name implements operation.Operation.
func (c *certificates) Name() string { return CertificatesName }

// Prepare leaves out devices whose BMC shows no certificate.
func (c *certificates) Prepare(_ context.Context, spec json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	if err := operation.DecodeSpec(CertificatesName, spec, &struct{}{}); err != nil {
		return operation.Prepared{}, err
	}
	omit := withoutBMC(devices)
	if len(devices) > 0 && len(omit) == len(devices) {
		return operation.Prepared{}, errNoBMC(CertificatesName)
	}
	for _, dev := range devices {
		switch {
		case dev.BMC == nil:
		case dev.BMC.Protocol == string(bmc.IPMILan):
			omit[dev.Name] = "its BMC is read over IPMI, where the password proves both sides and there is no certificate"
		case dev.BMC.PlainHTTP:
			omit[dev.Name] = "its BMC is read without TLS (plain_http)"
		}
	}
	return operation.Prepared{Spec: json.RawMessage(`{}`), Access: operation.Read, Omit: omit, Beside: true}, nil
}

// Steps gives the one step, show.
func (c *certificates) Steps(_ json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		for _, dev := range unit.Devices {
			if dev.BMC == nil {
				continue
			}
			if err := c.show(ctx, env, dev); err != nil {
				return operation.Observation{}, failed("show the certificate of the BMC", dev, err)
			}
		}
		return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d certificates", len(unit.Devices))}, nil
	}
	return []operation.Step{{Name: "show", Observe: observe}}, nil
}

func (c *certificates) show(ctx context.Context, env operation.Env, dev *device.Device) error {
	ctx, cancel := context.WithTimeout(ctx, showLimit)
	defer cancel()
	cert, err := bmc.Show(ctx, bmc.Target{Host: dev.BMC.Host, Port: dev.BMC.Port, Dial: dial(c.through, dev)})
	if err != nil {
		return err
	}
	pinned, err := c.pins.of(dev.BMC)
	if err != nil {
		return err
	}
	status := Unknown
	switch pinned = append(pinned, dev.BMC.TLSPins...); {
	case slices.Contains(pinned, cert.Fingerprint):
		status = Pinned
	case len(pinned) > 0:
		status = Changed
	}
	env.Row(dev, CertificateRow{
		Device: dev.Name, Host: bmc.HostName(dev.BMC.Host, dev.BMC.Port), Type: CertificateType,
		SHA256: cert.Fingerprint, PublicKey: base64.StdEncoding.EncodeToString(cert.DER),
		Subject: cert.Subject, Issuer: cert.Issuer, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Status: status,
	})
	return nil
}

// showLimit bounds one handshake.
const showLimit = 30 * time.Second

// PinOf gives the pin of a certificate that was shown for a device's BMC. The
// certificate has to be the one of the fingerprint, and the host the BMC's own: a
// slip there would trust somebody else.
func PinOf(dev *device.Device, host, fingerprint, certificate string) (path string, pin bmc.Pin, err error) {
	fail := func(err error) error {
		return &fault.Error{Kind: fault.Invalid, Act: "pin the certificate of its BMC", Device: dev.Name, Stage: "host_key", Err: err}
	}
	if dev.BMC == nil {
		return "", pin, fail(errors.New("the inventory gives it no BMC"))
	}
	if own := bmc.HostName(dev.BMC.Host, dev.BMC.Port); host != own {
		return "", pin, fail(fmt.Errorf("the certificate is for another host than %s", own))
	}
	der, err := base64.StdEncoding.DecodeString(certificate)
	if err != nil || bmc.Fingerprint(der) != fingerprint {
		return "", pin, fail(errors.New("the fingerprint is not that of the certificate"))
	}
	return dev.BMC.KnownBMCs, bmc.Pin{Host: host, Fingerprint: fingerprint}, nil
}
