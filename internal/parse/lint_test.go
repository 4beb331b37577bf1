package parse

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

// What a template is refused for: the line, what is wrong, what to write instead.
func TestRefusals(t *testing.T) {
	value := func(pattern string) string { return "Value A " + pattern + "\n\nStart\n  ^${A} -> Record\n" }
	rule := func(rule string) string { return "Value Name (x)\nValue Other (y)\n\nStart\n  ^" + rule + "\n" }
	tests := map[string]struct {
		src  string
		line int
		says []string
	}{
		"typo":                {rule(`${Nmae}`), 5, []string{`no Value is called "Nmae"`, `did you mean "Name"?`}},
		"typo without braces": {rule(`$Othre x`), 5, []string{`"Othre"`, `"Other"`}},
		"nothing near":        {rule(`${Zebra}`), 5, []string{"declare it"}},
		"single dollar":       {rule(`${Name}$`), 5, []string{"write $$"}},
		"open brace":          {rule(`${Name`), 5, []string{"${Name}"}},
		"used twice":          {rule(`${Name}${Name}`), 5, []string{"used twice"}},
		"duplicate value":     {"Value A (x)\nValue B (x)\nValue A (y)\n\nStart\n  ^${A}\n", 3, []string{"declared twice", "line 1"}},
		"same key":            {"Value A (x)\nValue a (y)\n\nStart\n  ^${A}\n", 2, []string{"A and a", "lower case"}},
		"value name":          {"Value A( (x)\n\nStart\n  ^x\n", 1, []string{`"A("`, "letters"}},
		"look-ahead":          {rule(`a(?=b)`), 5, []string{"look-ahead", "the rule itself"}},
		"negative look-ahead": {rule(`(?!b)a`), 5, []string{"negative look-ahead", "a rule for the excluded text before this one"}},
		"look-behind":         {rule(`a(?<=b)`), 5, []string{"look-behind"}},
		"look-behind, not":    {rule(`a(?<!b)`), 5, []string{"look-behind", "before this one"}},
		"in a value":          {value(`((?!x)\S+)`), 1, []string{"negative look-ahead"}},
		"back reference":      {rule(`(a)\1`), 5, []string{`back reference \1`, "compare the rows"}},
		"named reference":     {rule(`(?P<q>a)(?P=q)`), 5, []string{"back reference"}},
		"conditional":         {rule(`(a)?(?(1)b)`), 5, []string{"conditional", "one rule for each case"}},
		"atomic":              {rule(`(?>a)`), 5, []string{"atomic"}},
		"possessive":          {rule(`a++`), 5, []string{"possessive"}},
		"long repeat":         {value(`(x{1,2000})`), 1, []string{"1000 times"}},
		"verbose":             {rule(`(?x)a`), 5, []string{"(?x"}},
		"open class":          {rule(`[a`), 5, []string{"class"}},
		"closed early":        {rule(`)(?:`), 5, []string{"a ) without its ("}},
		"escape":              {rule(`\y`), 5, []string{`\y means nothing`}},
		"bad action":          {rule(`${Name} -> Recrod.Next`), 5, []string{"Recrod.Next", "write ->"}},
		"continue to a state": {rule(`${Name} -> Continue Start`), 5, []string{"takes no state"}},
		"unknown state":       {rule(`${Name} -> Strat`), 5, []string{`no state "Strat"`}},
		"library's mark":      {rule(`__DOUBLE_OPENBR__ "a" __DOUBLE_CLOSEBR__`), 5, []string{"gotextfsm"}},
		"no value":            {"Start\n  ^x\n", 1, []string{"no Value is declared"}},
		"no blank line":       {"Value A (x)\nStart\n  ^${A}\n", 2, []string{"blank line"}},
		"indent":              {"Value A (x)\n\nStart\n    ^${A}\n", 4, []string{"two spaces"}},
		"option":              {"Value Requird A (x)\n\nStart\n  ^${A}\n", 1, []string{"Requird", "Required, Filldown"}},
		"state name":          {"Value A (x)\n\nStart here\n  ^${A}\n", 3, []string{"cannot name a state"}},
		"not UTF-8":           {rule("a\xff"), 5, []string{"UTF-8"}},
		"no start":            {"Value A (x)\n\nBegin\n  ^${A}\n", 0, []string{"Start is missing"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Compile("p/t", []byte(test.src))
			var refused *TemplateError
			if !fault.Is(err, fault.Invalid) || !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			f := refused.Findings[0]
			if f.Line != test.line || f.Fix == "" {
				t.Errorf("line %d, want %d; fix %q", f.Line, test.line, f.Fix)
			}
			for _, s := range append(test.says, "p/t") {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestLintTellsEverythingInOrder(t *testing.T) {
	src := "Value Required,List A (x)\nValue List,Fillup B (y)\nValue C (z)\n\nStart\n  ^${A} -> Nowhere\n  ^(?:${B}?)*\n  ^(?=x)\n\nLonely\n  ^. -> Error\n"
	want := []string{
		"1 warning Required looks at the last item of the list in Value A, not at the list",
		"2 warning Fillup puts a plain value into the empty lists of Value B",
		"3 warning no rule uses Value C",
		"5 warning state Start lets lines pass that no rule matches",
		`6 error there is no state "Nowhere"`,
		"7 warning B is inside a repeat that can match nothing: Python keeps an empty last round, this engine the one before",
		"8 error look-ahead (?=...) is not available",
		"10 warning no rule leads to state Lonely",
	}
	var got []string
	for _, f := range Lint("t", []byte(src)) {
		got = append(got, strings.TrimSpace(strings.Join([]string{strconv.Itoa(f.Line), string(f.Severity), f.Message}, " ")))
		if f.Template != "t" || !strings.HasPrefix(f.String(), "t: line "+strconv.Itoa(f.Line)+": ") {
			t.Errorf("finding reads %q", f)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
