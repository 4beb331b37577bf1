package parse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
)

// What goes wrong when gotextfsm is used as it comes, each shown cured. The
// differential tests hold all of it to Python; these say what it is about.

func mustCompile(tb testing.TB, src string) *Template {
	tb.Helper()
	t, err := Compile("t", []byte(src))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func parseAll(tb testing.TB, t *Template, text string) []Row {
	tb.Helper()
	rows, err := t.Parse(context.Background(), strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

func TestOneTemplateServesManyGoroutines(t *testing.T) {
	template := mustCompile(t, "Value Filldown Host (\\S+)\nValue List,Required Port (\\d+)\n\nStart\n  ^host ${Host} -> Continue.Clear\n  ^port ${Port}\n  ^$$ -> Record\n")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 50 {
				rows, err := template.Parse(context.Background(), strings.NewReader(fmt.Sprintf("host h%d\nport %d\nport 2\n\nport 3\n\n", i, i)))
				want := []Row{{"host": fmt.Sprint("h", i), "port": []any{fmt.Sprint(i), "2"}}, {"host": fmt.Sprint("h", i), "port": []any{"3"}}}
				if diff := cmp.Diff(want, rows); diff != "" || err != nil {
					t.Errorf("%v %s", err, diff)
				}
			}
		})
	}
	wg.Wait()
}

func TestFilldownDoesNotLeakIntoTheNextParse(t *testing.T) {
	template := mustCompile(t, "Value Filldown Host (\\S+)\nValue Port (\\d+)\n\nStart\n  ^host ${Host}\n  ^port ${Port} -> Record\n")
	parseAll(t, template, "host first\nport 1\n")
	want := []Row{{"host": "", "port": "2"}}
	if diff := cmp.Diff(want, parseAll(t, template, "port 2\n")); diff != "" {
		t.Error(diff)
	}
}

// 100,000 rows below an empty Fillup take a fraction of a second; when each match
// walks all rows above it they take minutes.
func TestFillupIsLinear(t *testing.T) {
	template := mustCompile(t, "Value Required A (\\d+)\nValue Fillup B (\\w*)\n\nStart\n  ^${A} ?${B} -> Record\n")
	var text bytes.Buffer
	const rows = 100_000
	for i := range rows {
		fmt.Fprintln(&text, i)
	}
	fmt.Fprintln(&text, "1 last")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := template.Parse(ctx, &text)
	if err != nil || len(got) != rows+1 || got[0]["b"] != "last" {
		t.Fatalf("%d rows, %v", len(got), err)
	}
}

func TestSpacesInAValueAreKept(t *testing.T) {
	template := mustCompile(t, "Value A (a  b)\n\nStart\n  ^${A} -> Record\n")
	if rows := parseAll(t, template, "a b\na  b\n"); len(rows) != 1 || rows[0]["a"] != "a  b" {
		t.Errorf("got %v", rows)
	}
}

func TestAlternationIsAnchoredAsAWhole(t *testing.T) {
	template := mustCompile(t, "Value A (\\d)\nValue B (\\d)\n\nStart\n  ^x${A}|y${B} -> Record\n")
	want := []Row{{"a": "1", "b": ""}, {"a": "", "b": "2"}}
	if diff := cmp.Diff(want, parseAll(t, template, "x1\ny2\nin the middle y3\n")); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyIsNotMissing(t *testing.T) {
	template := mustCompile(t, "Value A (\\d*)\nValue List B (\\w*)\n\nStart\n  ^row ${A}$$ -> Record\n  ^list ${B}(?:,${A})?\n  ^item(?: ${B})?\n  ^end -> Record\n")
	want := []Row{
		{"a": "", "b": []any{}}, // a row whose one value is empty is a row
		{"a": "", "b": []any{"x", "", nil}},
	}
	if diff := cmp.Diff(want, parseAll(t, template, "end\nrow \nlist x\nitem \nitem\nend\nend\n")); diff != "" {
		t.Error(diff)
	}
}

func TestLongLines(t *testing.T) {
	template := mustCompile(t, "Value A (\\w+)\nValue Last (\\w+)\n\nStart\n  ^#\n  ^${A} x*-${Last}$$ -> Record\n")
	text := "a xxx-b\nfirst " + strings.Repeat("x", 1<<20) + "-last\n#" + strings.Repeat("x", MaxLine-1) + "\nd x-e\n"
	rows := parseAll(t, template, text)
	if len(rows) != 3 || rows[1]["last"] != "last" || rows[2]["a"] != "d" {
		t.Errorf("%d rows", len(rows))
	}
	_, err := template.Parse(context.Background(), strings.NewReader("a b c\n"+strings.Repeat("x", MaxLine+1)))
	if !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "line 2 ") {
		t.Errorf("got %v", err)
	}
}

func TestLinesArriveInAnyPieces(t *testing.T) {
	template := mustCompile(t, "Value A (.*)\n\nStart\n  ^${A} -> Record\n")
	const text = "one\r\ntwo\rthree\u2028four é\x85\u0085five\n\r\nsix\r"
	want := parseAll(t, template, text)
	if len(want) != 7 {
		t.Errorf("%d rows: %v", len(want), want)
	}
	for name, r := range map[string]io.Reader{
		"byte by byte": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text)), "with the end": iotest.DataErrReader(strings.NewReader(text)),
	} {
		rows, err := template.Parse(context.Background(), r)
		if diff := cmp.Diff(want, rows); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestReadErrorIsTold(t *testing.T) {
	template := mustCompile(t, "Value A (.*)\n\nStart\n  ^${A} -> Record\n")
	cut := errors.New("cut")
	_, err := template.Parse(context.Background(), io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
	if _, err = template.Parse(context.Background(), stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// Long breaks lie across the end of the reader's buffer at every offset.
func TestLineBreaksAcrossTheBuffer(t *testing.T) {
	template := mustCompile(t, "Value A (.*)\n\nStart\n  ^${A} -> Record\n")
	for pad := range 8 {
		const lines = 9_000 // 72 kB
		text := strings.Repeat("p", pad) + strings.Repeat("é\u2028x\r\n", lines)
		rows, err := template.Parse(context.Background(), strings.NewReader(text))
		if err != nil || len(rows) != 2*lines {
			t.Fatalf("padded by %d: %d rows, %v", pad, len(rows), err)
		}
		for i, row := range rows[1:] {
			if want := []string{"x", "é"}[i%2]; row["a"] != want {
				t.Fatalf("padded by %d: row %d is %q", pad, i+1, row["a"])
			}
		}
	}
}

// Each would run for many seconds: a text that never ends, one buffer of lines
// under slow rules, and one long line under an expression that RE2 is slow at.
func TestParseEndsWithItsContext(t *testing.T) {
	var slow strings.Builder
	for i := range 40 {
		fmt.Fprintf(&slow, "(?:.*a.{%d}b)?", i+1)
	}
	head := "Value A (\\S+)\n\nStart\n"
	for name, test := range map[string]struct {
		template string
		text     io.Reader
	}{
		"text":  {head + "  ^${A} -> Record\n  ^. -> Clearall\n", endless("some text\n")},
		"lines": {head + strings.Repeat("  ^"+slow.String()+"${A}x\n", 20), endless(strings.Repeat("abcdef ", 9) + "\n")},
		"line":  {head + "  ^" + slow.String() + "${A}x\n", strings.NewReader(strings.Repeat("abcdef ", (MaxLine-10)/7))},
	} {
		t.Run(name, func(t *testing.T) {
			template := mustCompile(t, test.template)
			ctx, cancel := context.WithCancel(t.Context())
			canceled := make(chan time.Time, 1)
			time.AfterFunc(50*time.Millisecond, func() {
				canceled <- time.Now()
				cancel()
			})
			_, err := template.Parse(ctx, test.text)
			if !fault.Is(err, fault.Canceled) {
				t.Fatalf("got %v", err)
			}
			if late := time.Since(<-canceled); late > time.Second {
				t.Errorf("ended %v after its context", late)
			}
		})
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	template := mustCompile(t, head+"  ^${A}\n")
	if _, err := template.Parse(ctx, strings.NewReader("x")); !fault.Is(err, fault.Timeout) {
		t.Errorf("past its deadline: %v", err)
	}
}

type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n+len(e) <= len(p) {
		n += copy(p[n:], e)
	}
	if n == 0 {
		n = copy(p, e)
	}
	return n, nil
}

func TestStrictTemplateNamesTheLine(t *testing.T) {
	template := mustCompile(t, "Value A (\\d+)\n\nStart\n  ^${A} -> Record\n  ^. -> Error \"a number expected\"\n")
	if !template.Strict() {
		t.Error("not strict")
	}
	rows, err := template.Parse(context.Background(), strings.NewReader("1\n2\n\x1b[31mthree\x00 \xff\n4\n"))
	var line *LineError
	if rows != nil || !fault.Is(err, fault.Unparsed) || !errors.As(err, &line) {
		t.Fatalf("%v %v", rows, err)
	}
	want := LineError{Line: 3, Text: "\x1b[31mthree\x00 \ufffd", Rule: 5, Message: "a number expected"}
	if diff := cmp.Diff(want, *line); diff != "" {
		t.Error(diff)
	}
	if fault.StageOf(err) != "parse" || strings.ContainsAny(err.Error(), "\x1b\x00\n") {
		t.Errorf("stage %q, message %q", fault.StageOf(err), err)
	}
	if mustCompile(t, "Value A (x)\n\nStart\n  ^${A}\n").Strict() {
		t.Error("a template that lets lines pass is called strict")
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	if _, err := Compile("t", []byte("Value A( (x)\n\nStart\n  ^x\n")); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	template := mustCompile(t, "Value A (x)\n\nStart\n  ^${A}\n")
	template.states[0].rules[0].groups[0].group = 99
	if _, err := template.Parse(context.Background(), strings.NewReader("x")); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestValuesKeepTheirOrder(t *testing.T) {
	template := mustCompile(t, "Value Required,Key Zulu (x)\nValue List Alpha (x)\nValue Filldown MikeTwo (x)\nValue Fillup B (x)\n\nStart\n  ^${Zulu}\n")
	var got []string
	for _, v := range template.Values() {
		got = append(got, fmt.Sprintf("%s %s %v %v %v %v %v", v.Name, v.Key, v.Required, v.IsKey, v.List, v.Filldown, v.Fillup))
	}
	want := []string{
		"Zulu zulu true true false false false", "Alpha alpha false false true false false",
		"MikeTwo miketwo false false false true false", "B b false false false false true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
