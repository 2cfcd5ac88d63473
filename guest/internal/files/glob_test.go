package files

import (
	"strings"
	"testing"
	"time"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.go", "a.go", true}, {"*.go", "d/a.go", false}, {"**/*.go", "a.go", true}, {"**/*.go", "d/e/a.go", true},
		{"d/**", "d/e/f", true}, {"d/**", "d", true}, {"d/**", "e", false}, {"**", "any/thing", true}, {"a/**/b", "a/b", true},
		{"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y/c", false}, {"?[ab]", "xa", true}, {"?[ab]", "xc", false}, {"", "all", true},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Match(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
	evil, err := ParseGlob(strings.Repeat("**/", 60) + "x")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	evil.Match(strings.Repeat("a/", 1000) + "b")
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
}
