package parse

import (
	"regexp/syntax"
	"slices"
)

// repeatsEmptyGroup finds a named group inside a repeat whose body can match
// nothing, as in (?:(?P<A>a*))*. It is the one place where RE2 and Python match the
// same text and keep another group: Python goes round once more, matches nothing
// and keeps that; RE2 keeps the round before. The result names the group, "" for
// none.
func repeatsEmptyGroup(expression string) string {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return ""
	}
	return findEmptyRepeat(tree)
}

func findEmptyRepeat(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		if name := namedGroup(re.Sub[0]); name != "" && matchesEmpty(re.Sub[0]) {
			return name
		}
	}
	for _, sub := range re.Sub {
		if name := findEmptyRepeat(sub); name != "" {
			return name
		}
	}
	return ""
}

func namedGroup(re *syntax.Regexp) string {
	if re.Op == syntax.OpCapture && re.Name != "" {
		return re.Name
	}
	for _, sub := range re.Sub {
		if name := namedGroup(sub); name != "" {
			return name
		}
	}
	return ""
}

func matchesEmpty(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpStar, syntax.OpQuest, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	case syntax.OpRepeat:
		return re.Min == 0 || matchesEmpty(re.Sub[0])
	case syntax.OpCapture, syntax.OpPlus:
		return matchesEmpty(re.Sub[0])
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !matchesEmpty(sub) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, matchesEmpty)
	}
	return false
}
