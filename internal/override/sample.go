package override

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/templates"
)

// lost tells which samples the template in force reads and the new one does not,
// or not with the same rows.
func (s *Store) lost(ctx context.Context, c Change, was Template, t *parse.Template) ([]string, error) {
	if was.Text == "" {
		return nil, nil
	}
	old, err := parse.Compile(c.Name, []byte(was.Text))
	if err != nil {
		return nil, nil //nolint:nilerr // one that cannot be used reads nothing that could be lost
	}
	platform, template, _ := strings.Cut(c.Name, "/")
	pattern := platform + "/samples/" + template + "/*/raw.txt"
	var out []string
	for source, tree := range map[string]fs.FS{"built-in": templates.FS, "own": os.DirFS(filepath.Join(s.dir, "templates"))} {
		raws, err := fs.Glob(tree, pattern)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "list samples", err)
		}
		for _, raw := range raws {
			text, err := fs.ReadFile(tree, raw)
			if err != nil {
				return nil, fault.Wrap(fault.Storage, "read sample "+raw, err)
			}
			before, err := old.Parse(ctx, bytes.NewReader(text))
			if err != nil {
				continue // nothing to lose
			}
			name := source + " sample " + strings.TrimSuffix(raw, "/raw.txt")
			after, err := t.Parse(ctx, bytes.NewReader(text))
			switch {
			case ctx.Err() != nil:
				return nil, fault.Wrap(fault.KindOf(ctx.Err()), "try the template", ctx.Err())
			case err != nil:
				out = append(out, fmt.Sprintf("%s was read before and is not any more: %v", name, lineOf(err)))
			case !reflect.DeepEqual(before, after):
				out = append(out, fmt.Sprintf("%s gives other rows than before (%d, before %d)", name, len(after), len(before)))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// lineOf is the line that stopped a template, without what names the template.
func lineOf(err error) error {
	var line *parse.LineError
	if errors.As(err, &line) {
		return line
	}
	return err
}

// writeSample writes a sample in the layout of the built-in ones. A sample of that
// name with another text is not overwritten.
func writeSample(dir string, c Change) error {
	raw := filepath.Join(dir, "raw.txt")
	if have, err := os.ReadFile(raw); err == nil && !sameText(have, []byte(c.Sample.Raw)) {
		return &fault.Error{Kind: fault.Conflict, Act: "save sample " + c.Sample.Case, Err: errors.New("there is another sample of that name"), Next: "give it another name"}
	}
	t, err := parse.Compile(c.Name, []byte(c.Text))
	if err != nil {
		return err
	}
	rows, err := t.Parse(context.Background(), strings.NewReader(c.Sample.Raw))
	if err != nil {
		return err
	}
	if rows == nil {
		rows = []parse.Row{}
	}
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rows); err != nil {
		return fault.Wrap(fault.Internal, "write the sample's rows", err)
	}
	for name, text := range map[string]string{"raw.txt": c.Sample.Raw, "want.json": want.String(), "origin.txt": strings.TrimSpace(c.Sample.Origin) + "\n"} {
		if err := writeFile(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}
