package files

import (
	"path"
	"strings"

	"chorus-sandbox/guest/internal/fault"
)

// Glob matches relative paths: *, ? and [...] within a segment, ** across segments.
type Glob struct{ parts []string }

// ParseGlob checks the pattern; an empty one matches everything.
func ParseGlob(pattern string) (*Glob, error) {
	if pattern == "" {
		return nil, nil
	}
	g := &Glob{parts: strings.Split(pattern, "/")}
	if len(pattern) > 1024 || len(g.parts) > 64 {
		return nil, fault.New(fault.InvalidArgument, "glob is too long")
	}
	for _, part := range g.parts {
		if _, err := path.Match(part, ""); err != nil {
			return nil, fault.New(fault.InvalidArgument, "glob %q is malformed", fault.Clip(pattern, 128))
		}
	}
	return g, nil
}

// Match reports whether the whole path matches.
func (g *Glob) Match(name string) bool {
	if g == nil {
		return true
	}
	// States are positions in the pattern, advanced by one segment of the path at a time: linear, whatever the pattern.
	states := g.reach(map[int]bool{}, 0)
	for _, segment := range strings.Split(name, "/") {
		next := map[int]bool{}
		for i := range states {
			if i == len(g.parts) {
				continue
			}
			if g.parts[i] == "**" {
				g.reach(next, i)
			} else if ok, _ := path.Match(g.parts[i], segment); ok {
				g.reach(next, i+1)
			}
		}
		states = next
	}
	return states[len(g.parts)]
}

// reach adds a position and, as ** matches nothing too, the ones behind it.
func (g *Glob) reach(states map[int]bool, i int) map[int]bool {
	states[i] = true
	for ; i < len(g.parts) && g.parts[i] == "**"; i++ {
		states[i+1] = true
	}
	return states
}
