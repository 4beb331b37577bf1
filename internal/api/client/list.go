package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// listed gets a list that may be as long as the fleet is large. They are read as they
// come; a list that is cut is an error and no list.
func listed[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	list, err := decodeRows[T](resp.Body)
	if err != nil {
		return nil, c.broken(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return list, nil
}

// decodeRows reads an object whose field rows is the list; others are passed over.
func decodeRows[T any](r io.Reader) ([]T, error) {
	dec := json.NewDecoder(r)
	if err := delimiter(dec, '{'); err != nil {
		return nil, err
	}
	list := []T{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if key != "rows" {
			var other json.RawMessage
			if err := dec.Decode(&other); err != nil {
				return nil, err
			}
			continue
		}
		if err := delimiter(dec, '['); err != nil {
			return nil, err
		}
		for dec.More() {
			var v T
			if err := dec.Decode(&v); err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if err := delimiter(dec, ']'); err != nil {
			return nil, err
		}
	}
	if err := delimiter(dec, '}'); err != nil {
		return nil, err
	}
	if token, err := dec.Token(); !errors.Is(err, io.EOF) { // read to its end, the connection can be used again
		return nil, fmt.Errorf("%v comes after the end", token)
	}
	return list, nil
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v belongs", token, want)
	}
	return nil
}
