package files

import (
	"path"
	"strings"

	"chorus-sandbox/guest/internal/fault"
)

const (
	maxGlob         = 1024
	maxGlobSegments = 64
	maxAlternatives = 64
)

// Glob matches relative paths: *, ? and [...] within a segment, ** across segments, {a,b} one of several.
type Glob struct {
	alternatives [][]string // each by segments
}

// ParseGlob checks the pattern; an empty one matches everything.
func ParseGlob(pattern string) (*Glob, error) {
	if pattern == "" {
		return nil, nil
	}
	malformed := fault.New(fault.InvalidArgument, "glob %q is malformed", fault.Clip(pattern, 128))
	if len(pattern) > maxGlob {
		return nil, fault.New(fault.InvalidArgument, "glob is too long")
	}
	plain, ok := expandBraces(pattern)
	if !ok {
		return nil, malformed
	}
	g := &Glob{}
	for _, alternative := range plain {
		parts := strings.Split(alternative, "/")
		if len(parts) > maxGlobSegments {
			return nil, fault.New(fault.InvalidArgument, "glob is too long")
		}
		for _, part := range parts {
			if _, err := path.Match(part, ""); err != nil {
				return nil, malformed
			}
		}
		g.alternatives = append(g.alternatives, parts)
	}
	return g, nil
}

// expandBraces writes out {a,b}, nested ones too; false when a brace is not closed or too many alternatives come of it.
func expandBraces(pattern string) ([]string, bool) {
	open, commas, end := findBraces(pattern)
	if open < 0 {
		return []string{pattern}, true
	}
	if end < 0 {
		return nil, false
	}
	var all []string
	from := open + 1
	for _, to := range append(commas, end) {
		rest, ok := expandBraces(pattern[:open] + pattern[from:to] + pattern[end+1:])
		if !ok || len(all)+len(rest) > maxAlternatives {
			return nil, false
		}
		all, from = append(all, rest...), to+1
	}
	return all, true
}

// findBraces finds the first brace that is not escaped or in brackets, its commas and its end; open is -1 without one, end where it is not closed.
func findBraces(pattern string) (open int, commas []int, end int) {
	open = -1
	depth, bracket := 0, false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case bracket:
			bracket = c != ']'
		case c == '[':
			bracket = true
		case c == '{':
			if depth++; depth == 1 {
				open = i
			}
		case c == '}' && depth > 0:
			if depth--; depth == 0 {
				return open, commas, i
			}
		case c == ',' && depth == 1:
			commas = append(commas, i)
		}
	}
	return open, nil, -1
}

// Match reports whether the whole path matches.
func (g *Glob) Match(name string) bool {
	if g == nil {
		return true
	}
	segments := strings.Split(name, "/")
	for _, parts := range g.alternatives {
		if matchSegments(parts, segments) {
			return true
		}
	}
	return false
}

// matchSegments keeps all positions in the pattern it may be at, advanced by one segment of the path at a time: linear, whatever the pattern.
func matchSegments(parts, segments []string) bool {
	states := reach(parts, map[int]bool{}, 0)
	for _, segment := range segments {
		next := map[int]bool{}
		for i := range states {
			if i == len(parts) {
				continue
			}
			if parts[i] == "**" {
				reach(parts, next, i)
			} else if ok, _ := path.Match(parts[i], segment); ok {
				reach(parts, next, i+1)
			}
		}
		states = next
	}
	return states[len(parts)]
}

// reach adds a position and, as ** matches nothing too, the ones behind it.
func reach(parts []string, states map[int]bool, i int) map[int]bool {
	states[i] = true
	for ; i < len(parts) && parts[i] == "**"; i++ {
		states[i+1] = true
	}
	return states
}
