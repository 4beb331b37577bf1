package sel

import (
	"bytes"
	"regexp"
)

// blanked takes the place of a secret in a dossier.
const blanked = "<blanked>"

// What a device prints beside such a word is taken for a secret. Outputs that hold
// a configuration are not asked for; this is for what slips into logs.
var (
	secretWord = regexp.MustCompile(`(?i)\b((?:[a-z0-9]+[-_])*(?:password|passwd|passphrase|secret|token|community|api[-_ ]?key|private[-_ ]key)[a-z0-9_-]*)(["']?\s*[:=]\s*|\s+)("[^"\n]*"|'[^'\n]*'|[^\s,;]+)`)
	keyBlock   = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	basicAuth  = regexp.MustCompile(`(?i)\b(basic|bearer) [a-z0-9+/=._-]{8,}`)
)

// redact blanks what may be a secret, and every one that is known.
func redact(text []byte, known ...string) []byte {
	for _, value := range known {
		if len(value) >= 4 { // shorter ones would blank half of a log
			text = bytes.ReplaceAll(text, []byte(value), []byte(blanked))
		}
	}
	text = keyBlock.ReplaceAll(text, []byte(blanked))
	text = secretWord.ReplaceAll(text, []byte("${1}${2}"+blanked))
	return basicAuth.ReplaceAll(text, []byte("${1} "+blanked))
}
