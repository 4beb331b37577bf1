package rows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, data string
		want       []string
	}{
		{"empty", `[]`, []string{}},
		{"empty with blanks", " [ \n] \n", []string{}},
		{"of all kinds", `[1, "a", null ,true,{"a":[1,2]},[[],{}]]`, []string{`1`, `"a"`, `null`, `true`, `{"a":[1,2]}`, `[[],{}]`}},
		{"brackets, commas and quotes in strings", `["],[", "a\",b", "\\", {"}":"{"}]`, []string{`"],["`, `"a\",b"`, `"\\"`, `{"}":"{"}`}},
		{"line by line", "[{\"a\":1},\n{\"a\":2}]\n", []string{`{"a":1}`, `{"a":2}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Split([]byte(test.data))
			if err != nil {
				t.Fatal(err)
			}
			texts := []string{}
			for _, row := range got {
				texts = append(texts, string(row))
			}
			if diff := cmp.Diff(test.want, texts); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got, err := Split([]byte(" null ")); got != nil || err != nil {
		t.Errorf("null gives %q, %v", got, err)
	}
}

func TestSplitRefusesWhatIsCutOrNoArray(t *testing.T) {
	t.Parallel()
	whole := `[{"a":"x\"y"},{"b":[1,2]}]`
	for end := range len(whole) {
		if got, err := Split([]byte(whole[:end])); err == nil {
			t.Errorf("%s gives %q", whole[:end], got)
		}
	}
	for _, data := range []string{`{}`, `1`, `[1],`, `[1]]`, `[,]`, `[1,]`, `[,1]`, `[1}`, `[]x`} {
		if got, err := Split([]byte(data)); err == nil {
			t.Errorf("%s gives %q", data, got)
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	got, err := Fields([]byte(` {"job" : {"id":"1,}"},` + "\n" + `"rows":[{"a":":"}],"n":null, "w\u0061s":[]} ` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]json.RawMessage{"job": json.RawMessage(`{"id":"1,}"}`), "rows": json.RawMessage(`[{"a":":"}]`), "n": json.RawMessage(`null`), "was": json.RawMessage(`[]`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, data := range []string{``, `[]`, `{"a"}`, `{a:1}`, `{"a":1`, `{"a":1,}`, `{"a" 1}`} {
		if got, err := Fields([]byte(data)); err == nil {
			t.Errorf("%s gives %q", data, got)
		}
	}
}

func TestJoinRefusesARowThatIsNotJSON(t *testing.T) {
	t.Parallel()
	if joined, err := Join([]json.RawMessage{json.RawMessage(`{}`), json.RawMessage(`{"a":1},{`)}); err == nil {
		t.Errorf("gives %s", joined)
	}
}

// FuzzSplit holds Split and Join against encoding/json, for all that it takes.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{`[]`, `null`, `[1,"a\"]",{"b":[null]}]`, "[ {} ,\n[] ]", `[1`, `["\\"]`, `[1,]`, `{"a":[]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Split(data)
		var want []json.RawMessage
		if json.Unmarshal(data, &want) != nil {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		joined, err := Join(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Split(joined)
		if err != nil || len(again) != len(got) {
			t.Fatalf("%q became %q: %v", data, joined, err)
		}
	})
}

func FuzzFields(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":{"b":"}"},"c":[1,2]}`, `{"a":1,"a":2}`, `{"\u0061" : null }`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Fields(data)
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	var list bytes.Buffer
	list.WriteByte('[')
	for i := range 10_000 {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"device":"probe-%d","record_id":%d,"time":"2019-06-12T19:01:38Z","kind":"pci_serr","bus":128,"raw":"0200024c015d3300041300 6fa58012"}`, i, i)
	}
	list.WriteByte(']')
	for name, split := range map[string]func([]byte) ([]json.RawMessage, error){
		"Split": Split,
		"encoding/json": func(data []byte) (rows []json.RawMessage, err error) {
			err = json.Unmarshal(data, &rows)
			return rows, err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(list.Len()))
			for b.Loop() {
				if rows, err := split(list.Bytes()); err != nil || len(rows) != 10_000 {
					b.Fatal(len(rows), err)
				}
			}
		})
	}
}
