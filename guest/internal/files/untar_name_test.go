package files

import (
	"path"
	"strings"
	"testing"
)

// FuzzNames holds for every name and target an archive may have: what is taken lies below the root, by the plain rules of
// paths. `go test` runs the seeds, `go test -fuzz FuzzNames` looks for more.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "a/b", "./a//b/", "../a", "a/../../b", "/a", "", ".", "..", "...", "a\x00b", "a/.. /b", strings.Repeat("a/", 3000)} {
		for _, target := range []string{"b", "..", "../b", "../../b", "b/../..", "/etc", "", ".", "./..", "../.././b"} {
			f.Add(name, target)
		}
	}
	const root = "/root-of-it"
	below := func(at string) bool { return at == root || strings.HasPrefix(at, root+"/") }
	f.Fuzz(func(t *testing.T, name, target string) {
		clean, err := entryName(name)
		if err != nil {
			return
		}
		if at := path.Join(root, clean); !below(at) || at != path.Join(root, name) {
			t.Fatalf("%q lands at %q", name, at)
		}
		if clean == "" || staysInside(clean, target) != nil {
			return
		}
		if at := path.Join(root, path.Dir(clean), target); !below(at) {
			t.Errorf("%q -> %q leads to %q", clean, target, at)
		}
	})
}
