package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Kind says what a column's values are, and so how they are printed.
type Kind int

// The kinds.
const (
	Text     Kind = iota
	State         // a word of the state vocabulary; coloured on a terminal
	Number        // printed as it is
	Bytes         // integer number of bytes; GB (10^9) in tables and CSV
	Percent       // 0 to 100
	Duration      // seconds; "12d 4h" in tables, "12d 04:11:00" in wide and CSV
	Time          // RFC 3339
	Age           // RFC 3339; in a table on a terminal how long ago, or in how long
	Instant       // RFC 3339; in a table on a terminal the time of this day, or the date of another one, in UTC
	List          // array; its members joined by ", "
)

func (k Kind) rightAligned() bool {
	return k == Number || k == Bytes || k == Percent
}

// Column is one column of a table or of a CSV file.
type Column struct {
	Key  string // key in the row
	Head string // heading
	Kind Kind
	Wide bool // in tables, only with wide
	// Fixed columns are never shortened to fit a terminal: names that people copy.
	Fixed bool
	// Member gives a member of a List that is an object as text; nil prints JSON.
	Member func(member map[string]any) string
	// Says, when set, gives a table's cell from the whole row instead of from Key; ""
	// is no value. Numbers in the row are json.Number.
	Says func(row map[string]any) string
}

// View says which columns a table has and which a CSV file has, and their order.
type View struct {
	Table []Column
	// CSV is the columns of a CSV file; nil takes those of the wide table.
	CSV []Column
}

func (v View) tableColumns(wide bool) []Column {
	var cols []Column
	for _, c := range v.Table {
		if !c.Wide || wide {
			cols = append(cols, c)
		}
	}
	return cols
}

func (v View) csvColumns() []Column {
	if v.CSV != nil {
		return v.CSV
	}
	return v.Table
}

// record is one row, decoded for a view; numbers are json.Number.
type record map[string]any

func decodeRecord(raw json.RawMessage) (record, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var rec record
	if err := dec.Decode(&rec); err != nil {
		return nil, fmt.Errorf("read result row: %w", err)
	}
	return rec, nil
}

// style is where a cell goes.
type style int

const (
	inTable style = iota
	inWide
	inCSV
)

// place is a style with what else a cell's text depends on.
type place struct {
	style
	now time.Time // zero shows times as they are
}

// cell gives the text of a column in a row, and whether there is a value. The
// text is not cleaned yet.
func (c Column) cell(rec record, at place) (text string, ok bool) {
	s := at.style
	if c.Says != nil {
		text := c.Says(rec)
		return text, text != ""
	}
	v := rec[c.Key]
	if v == nil {
		return "", false
	}
	num, isNum := v.(json.Number)
	switch c.Kind {
	case Bytes:
		if n, err := strconv.ParseInt(num.String(), 10, 64); isNum && err == nil {
			if s == inCSV {
				return exactGB(n), true
			}
			return tableGB(n), true
		}
	case Percent:
		if f, err := num.Float64(); isNum && err == nil && s != inCSV {
			return percent(f, s), true
		}
	case Duration:
		if f, err := num.Float64(); isNum && err == nil && math.Abs(f) < math.MaxInt64/float64(time.Second) {
			if s == inTable {
				return Short(time.Duration(f * float64(time.Second))), true
			}
			return clock(f), true
		}
	case Age:
		text, _ := v.(string)
		if t, err := time.Parse(time.RFC3339, text); err == nil && s == inTable {
			if at.now.IsZero() {
				return t.UTC().Truncate(time.Second).Format(time.RFC3339), true
			}
			if ahead := t.Sub(at.now); ahead >= time.Second {
				return "in " + Short(ahead.Truncate(time.Second)), true
			}
			return Short(max(at.now.Sub(t), 0).Truncate(time.Second)) + " ago", true
		}
	case Instant:
		text, _ := v.(string)
		if t, err := time.Parse(time.RFC3339, text); err == nil && s == inTable && !at.now.IsZero() {
			t = t.UTC()
			switch now := at.now.UTC(); {
			case t.Truncate(24 * time.Hour).Equal(now.Truncate(24 * time.Hour)):
				return t.Format(time.TimeOnly), true
			case t.Year() == now.Year():
				return t.Format("01-02 15:04"), true
			default:
				return t.Format(time.DateOnly), true
			}
		}
	case List:
		if list, isList := v.([]any); isList {
			if len(list) == 0 && s != inCSV {
				return "", false
			}
			return c.join(list), true
		}
	default: // printed as it is
	}
	return scalar(v), true
}

// join gives the members of a list, separated by commas.
func (c Column) join(list []any) string {
	parts := make([]string, len(list))
	for i, v := range list {
		member, isObject := v.(map[string]any)
		switch {
		case v == nil:
			parts[i] = noValue
		case isObject && c.Member != nil:
			parts[i] = c.Member(member)
		default:
			parts[i] = scalar(v)
		}
	}
	return strings.Join(parts, ", ")
}

// scalar gives any JSON value as text; what is not a scalar stays JSON.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		return Column{}.join(v)
	default:
		text, err := marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
}

// Keys gives the keys of a row in their order.
func Keys(row json.RawMessage) []string {
	dec := json.NewDecoder(bytes.NewReader(row))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil
	}
	var keys []string
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return keys
		}
		key, _ := tok.(string)
		keys = append(keys, key)
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return keys
		}
	}
	return keys
}
