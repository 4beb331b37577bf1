package sshconn

import "strings"

// Quote joins args into one line that a POSIX shell splits into the same args
// again. An SSH server hands the line of an exec request to the login shell;
// this is the only place where such a line is made.
//
// An argument with a NUL byte cannot be passed; Exec refuses it beforehand.
func Quote(args []string) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if plainWord(arg) {
			b.WriteString(arg)
			continue
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(arg, "'", `'\''`))
		b.WriteByte('\'')
	}
	return b.String()
}

// plainWord reports whether a shell takes the word as it is wherever it stands.
// An equals sign would make an assignment of the first word, a tilde or a
// percent sign has a meaning at its start, so none of them is plain.
func plainWord(s string) bool {
	if s == "" || reserved(s) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("_@:,./+-", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// reserved words of POSIX and of the shells on the platforms we know; quoted,
// they are command names like any other.
func reserved(s string) bool {
	switch s {
	case "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while",
		"coproc", "function", "namespace", "select", "time":
		return true
	}
	return false
}
