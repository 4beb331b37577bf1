package operation

import "errors"

// Attention marks the error of an act after which a person has to look at the
// device: nothing shows its state, or it is not as it should be. The task goes to
// attention with the error's text. Nil stays nil.
func Attention(err error) error { return mark(err, attention) }

// Secured marks the error of an act between Hold steps after which the device was
// brought back into use, as proven: the task fails, and needs no attention. Nil
// stays nil.
func Secured(err error) error { return mark(err, secured) }

// NeedsAttention reports whether an error is marked by Attention.
func NeedsAttention(err error) bool { return marked(err, attention) }

// IsSecured reports whether an error is marked by Secured.
func IsSecured(err error) bool { return marked(err, secured) }

type sign int

const (
	attention sign = iota + 1
	secured
)

// signed is an error with what it says about the device.
type signed struct {
	error
	sign sign
}

func (s *signed) Unwrap() error { return s.error }

func mark(err error, s sign) error {
	if err == nil {
		return nil
	}
	return &signed{err, s}
}

// marked goes by the outermost mark.
func marked(err error, s sign) bool {
	var have *signed
	return errors.As(err, &have) && have.sign == s
}
