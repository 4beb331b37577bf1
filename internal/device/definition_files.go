package device

// FilesDefinition says what a platform has for files beside SFTP. All of it is
// optional: without it files are compared by reading them back.
type FilesDefinition struct {
	// Hash are commands of the platform's POSIX shell that hash their standard
	// input, in order of preference.
	Hash []HashCommand `yaml:"hash"`
	// DF is a command that prints the free space of the directory given as its last
	// argument in the form of POSIX df -P, in units of 1024 bytes.
	DF []string `yaml:"df"`
}

// HashCommand hashes its standard input and prints the digest in hexadecimal.
type HashCommand struct {
	Algorithm string   `yaml:"algorithm"` // sha256 or md5
	Command   []string `yaml:"command"`   // program and arguments
}

// Algorithms of a HashCommand.
const (
	HashSHA256 = "sha256"
	HashMD5    = "md5"
)

// files refuses what cannot be run.
func (c checker) files(f *FilesDefinition) error {
	for i, h := range f.Hash {
		if h.Algorithm != HashSHA256 && h.Algorithm != HashMD5 {
			return c.errorf([]any{"files", "hash", i, "algorithm"}, "unknown algorithm %q (known: %s, %s)", h.Algorithm, HashSHA256, HashMD5)
		}
		if len(h.Command) == 0 || h.Command[0] == "" {
			return c.errorf([]any{"files", "hash", i, "command"}, "the command is empty")
		}
	}
	if len(f.DF) > 0 && f.DF[0] == "" {
		return c.errorf([]any{"files", "df"}, "the command is empty")
	}
	return nil
}
