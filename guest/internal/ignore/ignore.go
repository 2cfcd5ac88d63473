// Package ignore matches paths against patterns in the syntax of gitignore.
package ignore

import (
	"bytes"
	"strings"
)

const (
	// MaxRules and maxPattern bound what one list can cost; what is beyond them is passed over.
	MaxRules   = 5000
	maxPattern = 1024
)

// List is an ordered list of rules; the last one that matches decides.
type List struct{ rules []rule }

type rule struct {
	negate  bool
	dirOnly bool
	// anchored rules are matched against the whole path, others against its last name.
	anchored bool
	parts    []segment
}

// Parse reads the text of a .gitignore file.
func Parse(text []byte) *List {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	var lines []string
	for len(text) > 0 && len(lines) < MaxRules {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		lines = append(lines, string(bytes.TrimSuffix(line, []byte("\r"))))
		text = rest
	}
	return New(lines)
}

// New makes a list of one pattern a line.
func New(lines []string) *List {
	l := &List{}
	for _, line := range lines {
		if r, ok := parseRule(line); ok && len(l.rules) < MaxRules {
			l.rules = append(l.rules, r)
		}
	}
	return l
}

// Len is the number of rules.
func (l *List) Len() int { return len(l.rules) }

func parseRule(line string) (r rule, ok bool) {
	line = trimSpaces(line)
	if line == "" || line[0] == '#' || len(line) > maxPattern {
		return r, false
	}
	if line[0] == '!' {
		r.negate, line = true, line[1:]
	}
	if strings.HasSuffix(line, "/") {
		r.dirOnly, line = true, line[:len(line)-1]
	}
	r.anchored = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false
	}
	for _, part := range strings.Split(line, "/") {
		s, ok := compile(part)
		if !ok {
			return r, false
		}
		r.parts = append(r.parts, s)
	}
	return r, true
}

// trimSpaces cuts spaces at the end, but not one that is escaped.
func trimSpaces(line string) string {
	for strings.HasSuffix(line, " ") {
		short := line[:len(line)-1]
		if slashes := len(short) - len(strings.TrimRight(short, `\`)); slashes%2 == 1 {
			return line
		}
		line = short
	}
	return line
}

// Match says what the list decides about a path (slashes, relative to where the list belongs), if it decides anything.
// What is below an excluded directory is excluded with it; that is the caller's to know.
func (l *List) Match(path string, isDir bool) (excluded, decided bool) {
	for i := len(l.rules) - 1; i >= 0; i-- {
		if r := &l.rules[i]; (!r.dirOnly || isDir) && r.match(path) {
			return !r.negate, true
		}
	}
	return false, false
}

func (r *rule) match(path string) bool {
	if !r.anchored {
		return r.parts[0].match(path[strings.LastIndexByte(path, '/')+1:])
	}
	return matchParts(r.parts, path)
}

// matchParts goes back to the last ** only, so it takes at most the product of both lengths.
func matchParts(parts []segment, path string) bool {
	names := strings.Split(path, "/")
	p, n := 0, 0
	backP, backN := -1, 0
	for n < len(names) {
		switch {
		case p < len(parts) && parts[p].any:
			if p == len(parts)-1 {
				return true // something is left, and all of it is inside
			}
			backP, backN = p, n
			p++
		case p < len(parts) && parts[p].match(names[n]):
			p, n = p+1, n+1
		case backP >= 0:
			backN++
			p, n = backP+1, backN
		default:
			return false
		}
	}
	return p == len(parts)
}
