package ipfix

// ElementName gives the name of a registered element, "" for others.
func ElementName(id uint16) string { return registered(id).name }
