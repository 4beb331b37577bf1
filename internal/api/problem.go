package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"capfleet/internal/fault"
)

// maxDetail bounds an error's text. Device text can end up in it.
const maxDetail = 4 << 10

// NewProblem gives the body of an error. The detail is the error's text without
// the next step, which has its own field.
func NewProblem(err error) *Problem {
	kind := fault.KindOf(err)
	p := &Problem{
		Title:  title(kind),
		Status: kind.HTTPStatus(),
		Kind:   string(kind),
		Stage:  fault.StageOf(err),
	}
	text := err.Error()
	var outer *fault.Error
	if errors.As(err, &outer) {
		p.Device = deviceOf(outer)
		p.Next = line(outer.Next)
		if outer.Next != "" {
			// Only where the outermost error is ours can its next step be told apart
			// from the text around it.
			text = strings.TrimSuffix(text, " ("+outer.Next+")")
		}
	}
	p.Detail = line(text)
	return p
}

// Err gives the error of a body, with the kind that it had at the other end. A
// kind that this version does not know is told by the status.
func (p *Problem) Err() *fault.Error {
	kind := fault.Kind(p.Kind)
	if !slices.Contains(fault.Kinds(), kind) {
		kind = KindOfStatus(p.Status)
	}
	act := line(p.Detail)
	if act == "" {
		act = "fleetd answered " + http.StatusText(p.Status)
	}
	return &fault.Error{Kind: kind, Act: act, Device: p.Device, Stage: p.Stage, Next: p.Next}
}

// KindOfStatus gives the kind of a status without a body of ours. Where several
// kinds share a status it is the first of fault.Kinds.
func KindOfStatus(status int) fault.Kind {
	for _, k := range fault.Kinds() {
		if k.HTTPStatus() == status {
			return k
		}
	}
	switch {
	case status == http.StatusServiceUnavailable:
		return fault.Unavailable
	case status >= 400 && status < 500:
		return fault.Invalid
	default:
		return fault.Internal
	}
}

// Error, GetStatus and ContentType make a Problem what huma writes as it is.

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status to answer with.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of RFC 9457.
func (p *Problem) ContentType(string) string { return problemJSON }

const problemJSON = "application/problem+json"

func title(k fault.Kind) string { return strings.ReplaceAll(string(k), "_", " ") }

func deviceOf(err error) string {
	for err != nil {
		var e *fault.Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Device != "" {
			return e.Device
		}
		err = e.Err
	}
	return ""
}

// line makes text one bounded line without control or formatting characters.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "..."
	}
	return s
}
