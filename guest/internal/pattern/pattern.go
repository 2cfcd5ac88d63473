// Package pattern matches lines against RE2 patterns that strangers wrote, at a bounded cost.
package pattern

import (
	"bytes"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"

	"chorus-sandbox/guest/internal/fault"
)

const (
	// MaxLen is the longest pattern.
	MaxLen = 1 << 10
	// maxSize bounds the compiled pattern, and with it what one byte of input can cost: "(x{1000}){1000}" is short too.
	maxSize = 2500
	// shortLine is what is always matched at once, and shortWork, the line times the pattern, what is as well; more is
	// matched in a way that is slower and can be stopped in between.
	shortLine = 4 << 10
	shortWork = 1 << 24
)

// Pattern is a compiled pattern.
type Pattern struct {
	re      *regexp.Regexp
	size    int
	literal []byte // what every match contains, if that is known
	folded  []byte // the same in small letters, where the case does not matter
}

// Compile checks and compiles.
func Compile(text string, ignoreCase bool) (*Pattern, error) {
	if len(text) > MaxLen {
		return nil, fault.New(fault.InvalidArgument, "the pattern is longer than %d bytes", MaxLen)
	}
	if ignoreCase {
		text = "(?i)" + text
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the pattern is not RE2: %v", err)
	}
	steps := size(tree)
	if steps > maxSize {
		return nil, fault.New(fault.InvalidArgument, "the pattern is too complex; repeat less")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the pattern is not RE2: %v", err)
	}
	p := &Pattern{re: re, size: steps, literal: []byte(required(tree, false))}
	if len(p.literal) == 0 {
		p.folded = []byte(required(tree, true))
	}
	return p, nil
}

// size estimates the length of the compiled pattern before repetitions are expanded.
func size(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 16
	}
	for _, sub := range re.Sub {
		n += size(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min+1, re.Max)
	}
	return min(n, 1<<20)
}

// required is the longest text that is part of every match: as it stands, or whatever its case.
func required(re *syntax.Regexp, fold bool) string {
	switch re.Op {
	case syntax.OpLiteral:
		switch {
		case fold:
			return foldable(re.Rune)
		case re.Flags&syntax.FoldCase == 0:
			return string(re.Rune)
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0], fold)
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0], fold)
		}
	case syntax.OpConcat:
		longest := ""
		for _, sub := range re.Sub {
			if text := required(sub, fold); len(text) > len(longest) {
				longest = text
			}
		}
		return longest
	}
	return ""
}

// foldable is the longest part whose characters have no other forms than a small and a capital letter of ASCII.
// K and S have: the Kelvin sign and the long s.
func foldable(text []rune) string {
	longest := ""
	for _, part := range strings.FieldsFunc(string(text), func(c rune) bool { return c > unicode.MaxASCII || strings.ContainsRune("kKsS", c) }) {
		if len(part) > len(longest) {
			longest = part
		}
	}
	return strings.ToLower(longest)
}

// index finds what every match contains. Without such a text everything may match.
func (p *Pattern) index(text []byte) int {
	switch {
	case len(p.literal) > 0:
		return bytes.Index(text, p.literal)
	case len(p.folded) > 0:
		return indexFold(text, p.folded)
	}
	return 0
}

func indexFold(text, folded []byte) int {
	first := folded[0]
	for i := range len(text) - len(folded) + 1 {
		if lower(text[i]) != first {
			continue
		}
		n := 1
		for n < len(folded) && lower(text[i+n]) == folded[n] {
			n++
		}
		if n == len(folded) {
			return i
		}
	}
	return -1
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Skip tells how many bytes of text cannot hold the beginning of a line that matches.
func (p *Pattern) Skip(text []byte) int {
	i := p.index(text)
	if i < 0 {
		return len(text)
	}
	return bytes.LastIndexByte(text[:i], '\n') + 1
}

// Find looks for the pattern in one line. stop ends the search in a long line, which then does not match.
func (p *Pattern) Find(line []byte, stop func() bool) (from, to int, ok bool) {
	if p.index(line) < 0 {
		return 0, 0, false
	}
	var at []int
	if len(line) <= shortLine || len(line)*p.size <= shortWork {
		at = p.re.FindIndex(line)
	} else {
		at = p.re.FindReaderIndex(&runes{line: line, stop: stop})
	}
	if at == nil {
		return 0, 0, false
	}
	return at[0], at[1], true
}

// runes ends early when it is told to.
type runes struct {
	line []byte
	stop func() bool
	read int
}

func (r *runes) ReadRune() (rune, int, error) {
	if r.read++; r.read%shortLine == 0 && r.stop() {
		r.line = nil
	}
	if len(r.line) == 0 {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRune(r.line)
	r.line = r.line[n:]
	return c, n, nil
}

// Line cuts the end of the line off.
func Line(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

const mark = "…"

// Clip is the line as text of at most limit characters, those around from if it is longer.
func Clip(line []byte, from, limit int) string {
	if len(line) <= limit || utf8.RuneCount(line) <= limit {
		return string(bytes.ToValidUTF8(line, []byte("\uFFFD")))
	}
	start, end := from, from
	room := limit - 2 // the marks
	for before := 0; before < room/4 && start > 0; before++ {
		start -= lastRune(line[:start])
		room--
	}
	for ; room > 0 && end < len(line); room-- {
		_, n := utf8.DecodeRune(line[end:])
		end += n
	}
	for ; room > 0 && start > 0; room-- {
		start -= lastRune(line[:start])
	}
	text := string(bytes.ToValidUTF8(line[start:end], []byte("\uFFFD")))
	if start > 0 {
		text = mark + text
	}
	if end < len(line) {
		text += mark
	}
	return text
}

func lastRune(p []byte) int {
	_, n := utf8.DecodeLastRune(p)
	return n
}
