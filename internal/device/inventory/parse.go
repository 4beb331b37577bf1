package inventory

// Parse reads the text of an inventory as Load reads a file; path is where relative
// paths in it start and what errors name. The text need not be there.
func Parse(src []byte, path string, opts Options) (*Inventory, error) {
	return parse(src, path, opts)
}
