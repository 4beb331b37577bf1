package bmc

// TLS says how the BMC's certificate is trusted.
type TLS struct{}
