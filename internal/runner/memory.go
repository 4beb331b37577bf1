package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Keys of what is remembered. Those that begin with reserved are the runner's own.
const (
	reserved = "."
	maxKey   = 256
)

// Remember is durable in the journal before it is in the memory of this attempt.
func (e *env) Remember(ctx context.Context, key string, value any) error {
	raw, err := json.Marshal(value)
	switch {
	case err != nil:
		return fault.Wrap(fault.Internal, "remember "+line(key), err)
	case len(raw) > operation.MaxRemembered:
		return fault.New(fault.TooLarge, "remember %s: %d bytes, and at most %d are kept", line(key), len(raw), operation.MaxRemembered)
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if err := e.journal.Remember(ctx, key, raw); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.memory == nil {
		e.memory = make(map[string]json.RawMessage)
	}
	e.memory[key] = raw
	return nil
}

func (e *env) Recall(key string, into any) (bool, error) {
	e.mu.Lock()
	raw, ok := e.memory[key]
	e.mu.Unlock()
	if !ok || string(raw) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fault.Wrap(fault.Internal, "recall "+line(key), err)
	}
	return true, nil
}

func (e *env) Intended(step string) (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.intents[step]
	return at, ok
}

func (e *env) Retries() int { return e.retries }

// intend notes an intent that has been journalled.
func (e *env) intend(step string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.intents[step] = e.now()
}

func (e *env) Load(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return e.journal.Load(ctx, key)
}

func (e *env) Store(dev *device.Device, key string, value []byte) {
	e.record(dev, func(k *kept) error {
		if err := checkKey(key); err != nil {
			return err
		}
		if len(value) > operation.MaxStored {
			return fault.New(fault.TooLarge, "store %s: %d bytes, and at most %d are kept", line(key), len(value), operation.MaxStored)
		}
		if k.stores == nil {
			k.stores = make(map[string][]byte)
		}
		k.stores[key] = value
		return nil
	})
}

func (e *env) Artifact(ctx context.Context, sha256 string) (operation.ArtifactFile, error) {
	f, err := e.artifacts.OpenAt(ctx, sha256)
	if err != nil {
		return nil, err // not f: a nil *artifact.File in an interface is not nil
	}
	return f, nil
}

func checkKey(key string) error {
	if key == "" || len(key) > maxKey || strings.ContainsRune(key, 0) {
		return fault.New(fault.Internal, "key %s: it has to have 1 to %d bytes and no NUL", fmt.Sprintf("%q", line(key)), maxKey)
	}
	return nil
}
