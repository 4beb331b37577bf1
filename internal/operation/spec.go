package operation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"capfleet/internal/fault"
)

// DecodeSpec reads a request's spec into a struct, strictly: a key that the
// struct does not have is fault.Invalid, because a setting that is silently left
// out changes what is done. An absent spec or null leaves into as it is. act
// names the operation in errors.
func DecodeSpec(act string, raw json.RawMessage, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows it")
	}
	return &fault.Error{Kind: fault.Invalid, Act: act, Stage: "spec",
		Err: fmt.Errorf("the spec cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))}
}
