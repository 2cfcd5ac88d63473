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
		{"*.{ts,tsx}", "a.tsx", true}, {"*.{ts,tsx}", "a.js", false}, {"{src,test}/**/*.{c,h}", "test/d/x.h", true}, {"{a,{b,c}d}", "cd", true},
		{"{a,{b,c}d}", "c", false}, {"a{,b}", "a", true}, {"[{]x", "{x", true}, {`\{a,b}`, "{a,b}", true}, {"a}", "a}", true},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Match(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
	for _, malformed := range []string{"{a,b", "[", "a{b,{c}", strings.Repeat("{a,b}", 7), strings.Repeat("x", 2000)} {
		if _, err := ParseGlob(malformed); err == nil {
			t.Errorf("%.40q is taken", malformed)
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
