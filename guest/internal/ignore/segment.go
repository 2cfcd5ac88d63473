package ignore

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// segment is the pattern of one name.
type segment struct {
	any     bool // **: any number of names
	literal string
	tokens  []token // nil: the literal alone
}

type token struct {
	kind  kind
	char  rune
	class *class
}

type kind byte

const (
	char kind = iota
	one       // ?
	star      // *
	set       // [...]
)

// compile reports whether the pattern is well-formed; one that is not matches nothing.
func compile(text string) (segment, bool) {
	if text == "**" {
		return segment{any: true}, true
	}
	var tokens []token
	var literal strings.Builder
	plain := true
	for len(text) > 0 {
		c, n := decode(text)
		text = text[n:]
		switch c {
		case '?':
			plain, tokens = false, append(tokens, token{kind: one})
		case '*':
			if plain || tokens[len(tokens)-1].kind != star {
				tokens = append(tokens, token{kind: star})
			}
			plain = false
		case '[':
			s, rest, ok := parseClass(text)
			if !ok {
				return segment{}, false
			}
			plain, text, tokens = false, rest, append(tokens, token{kind: set, class: s})
		case '\\':
			if text == "" {
				return segment{}, false
			}
			c, n = decode(text)
			text = text[n:]
			fallthrough
		default:
			tokens = append(tokens, token{kind: char, char: c})
			writeRune(&literal, c)
		}
	}
	if plain {
		return segment{literal: literal.String()}, true
	}
	return segment{tokens: tokens}, true
}

func writeRune(b *strings.Builder, c rune) {
	if c < 0 {
		b.WriteByte(byte(-c))
		return
	}
	b.WriteRune(c)
}

// decode gives a byte that is no UTF-8 a value of its own, so that it matches only itself.
func decode(name string) (rune, int) {
	c, n := utf8.DecodeRuneInString(name)
	if c == utf8.RuneError && n == 1 {
		c = -rune(name[0])
	}
	return c, n
}

// match goes back to the last star only.
func (s *segment) match(name string) bool {
	if s.any {
		return true
	}
	if s.tokens == nil {
		return name == s.literal
	}
	t, at := 0, 0
	backT, backAt := -1, 0
	for at < len(name) {
		c, n := decode(name[at:])
		switch {
		case t < len(s.tokens) && s.tokens[t].kind == star:
			if t == len(s.tokens)-1 {
				return true
			}
			backT, backAt = t, at
			t++
		case t < len(s.tokens) && s.tokens[t].match(c):
			t, at = t+1, at+n
		case backT >= 0:
			_, step := decode(name[backAt:])
			backAt += step
			t, at = backT+1, backAt
		default:
			return false
		}
	}
	for t < len(s.tokens) && s.tokens[t].kind == star {
		t++
	}
	return t == len(s.tokens)
}

func (t *token) match(c rune) bool {
	switch t.kind {
	case one:
		return true
	case char:
		return t.char == c
	}
	return t.class.match(c)
}

// class is a set of characters.
type class struct {
	negate bool
	ranges [][2]rune
	named  []func(rune) bool
}

func (s *class) match(c rune) bool {
	for _, r := range s.ranges {
		if r[0] <= c && c <= r[1] {
			return !s.negate
		}
	}
	for _, is := range s.named {
		if is(c) {
			return !s.negate
		}
	}
	return s.negate
}

var classNames = map[string]func(rune) bool{
	"alnum": func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }, "alpha": unicode.IsLetter,
	"blank": func(c rune) bool { return c == ' ' || c == '\t' }, "cntrl": unicode.IsControl, "digit": unicode.IsDigit,
	"graph": func(c rune) bool { return unicode.IsGraphic(c) && c != ' ' }, "lower": unicode.IsLower, "print": unicode.IsPrint,
	"punct": func(c rune) bool { return unicode.IsPunct(c) || unicode.IsSymbol(c) }, "space": unicode.IsSpace, "upper": unicode.IsUpper,
	"xdigit": func(c rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", c) },
}

// parseClass reads what follows an opening bracket, up to the closing one.
func parseClass(text string) (s *class, rest string, ok bool) {
	s = &class{}
	if text != "" && (text[0] == '!' || text[0] == '^') {
		s.negate, text = true, text[1:]
	}
	for first := true; ; first = false {
		if text == "" {
			return nil, "", false
		}
		if text[0] == ']' && !first {
			return s, text[1:], true
		}
		if name, after, found := strings.Cut(strings.TrimPrefix(text, "[:"), ":]"); strings.HasPrefix(text, "[:") && found {
			is := classNames[name]
			if is == nil {
				return nil, "", false
			}
			s.named, text = append(s.named, is), after
			continue
		}
		low, after, ok := member(text)
		if !ok {
			return nil, "", false
		}
		high := low
		if len(after) > 1 && after[0] == '-' && after[1] != ']' {
			if high, after, ok = member(after[1:]); !ok {
				return nil, "", false
			}
		}
		s.ranges, text = append(s.ranges, [2]rune{low, high}), after
	}
}

func member(text string) (c rune, rest string, ok bool) {
	if text[0] == '\\' {
		if text = text[1:]; text == "" {
			return 0, "", false
		}
	}
	c, n := decode(text)
	return c, text[n:], true
}
