package ignore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var cases = []struct {
	patterns, path string
	want           bool
}{
	{"", "a", false}, {"# a\n#a", "#a", false}, {`\#a`, "#a", true}, {"\n\na\r\n", "a", true}, {"\uFEFFa", "a", true},
	{"a", "a", true}, {"a", "b/a", true}, {"a", "ab", false}, {"a", "A", false}, {"/a", "a", true}, {"/a", "b/a", false},
	{"b/a", "b/a", true}, {"b/a", "c/b/a", false}, {"b/", "b", false}, {"b/", "b/", true}, {"b/", "c/b/", true}, {"/b/", "c/b/", false},
	{"c/b/", "c/b", false}, {"c/b/", "c/b/", true},
	{"*.o\n!keep.o", "keep.o", false}, {"*.o\n!keep.o", "x/other.o", true}, {"!keep.o\n*.o", "keep.o", true}, {`\!a`, "!a", true}, {"!a", "a", false},
	{"*", "a", true}, {"*", ".a", true}, {"a*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "ab/c", false}, {"*a*b*", "xxaxxbxx", true},
	{"?", "a", true}, {"?", "ab", false}, {"a?b", "a/b", false}, {"x/*", "x/y", true}, {"x/*.c", "x/y/z.c", false}, {"x/?", "x/y", true},
	{"**/a", "a", true}, {"**/a", "x/y/a", true}, {"**/a/b", "x/a/b", true}, {"**/a/b", "a/x/b", false}, {"a/**", "a/", false}, {"a/**", "a/b", true},
	{"a/**", "a/b/c", true}, {"a/**", "x/a/b", false}, {"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y/c", false},
	{"a/**/b/**/c", "a/b/x/b/c", true}, {"a/**/b/**/c", "a/c/b", false}, {"**", "a/b", true}, {"a**b", "axxb", true}, {"x/a**b", "x/a/b", false},
	{"/**/a", "x/a", true}, {"**/", "x/", true}, {"**/", "x", false},
	{"[abc]", "b", true}, {"[abc]", "d", false}, {"[a-c]", "b", true}, {"[!a-c]", "b", false}, {"[!a-c]", "d", true}, {"[^a]", "b", true},
	{"[]a]", "]", true}, {"[]-]", "-", true}, {"[a-]", "-", true}, {`[\]]`, "]", true}, {`[\\]`, `\`, true}, {"[[:digit:]]x", "7x", true},
	{"[![:space:]]", " ", false}, {"[[:nope:]]", "n", false}, {"[a", "[a", false}, {"a[", "a[", false}, {"[a-c]x*.[ch]", "bxyz.h", true},
	{`a\*`, "a*", true}, {`a\*`, "ab", false}, {`\a`, "a", true}, {`a\`, `a\`, false}, {`a\?b`, "a?b", true},
	{"a ", "a", true}, {`a\ `, "a ", true}, {`a\ `, "a", false}, {"a  ", "a  ", false}, {`a\\ `, `a\`, true}, {" a", " a", true},
	{"a b", "a b", true}, {"漢?", "漢字", true}, {"-a", "-a", true}, {"/", "a", false}, {"!", "a", false},
}

func TestRules(t *testing.T) {
	for _, c := range cases {
		path, isDir := strings.CutSuffix(c.path, "/")
		if got, _ := Parse([]byte(c.patterns)).Match(path, isDir); got != c.want {
			t.Errorf("%q excludes %q: %v", c.patterns, c.path, got)
		}
	}
}

// git itself is asked about every case, so that the table tells the truth.
func TestTheTableAgreesWithGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("this test compares with git, which is not here")
	}
	for _, c := range cases {
		if strings.ContainsRune(c.path, '漢') {
			continue // ? is a byte to git
		}
		dir := t.TempDir()
		git := func(args ...string) *exec.Cmd {
			cmd := exec.Command("git", args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
			return cmd
		}
		if out, err := git("init", "-q").CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		if err := os.WriteFile(filepath.Join(dir, ".git/info/exclude"), []byte(c.patterns), 0o644); err != nil {
			t.Fatal(err)
		}
		path, isDir := strings.CutSuffix(c.path, "/")
		full := filepath.Join(dir, path)
		if isDir {
			_ = os.MkdirAll(full, 0o755)
		} else {
			_ = os.MkdirAll(filepath.Dir(full), 0o755)
			_ = os.WriteFile(full, nil, 0o644)
		}
		out, _ := git("check-ignore", "-v", "--no-index", "--", path).Output()
		// file:line:pattern<tab>path
		line := strings.TrimSuffix(string(out), "\n")
		_, rule, _ := strings.Cut(line, ":")
		_, rule, _ = strings.Cut(rule, ":")
		if got := line != "" && !strings.HasPrefix(rule, "!"); got != c.want {
			t.Errorf("git says that %q excludes %q: %v (%s)", c.patterns, c.path, got, line)
		}
	}
}

func TestHostilePatternsAreCheap(t *testing.T) {
	lines := []string{strings.Repeat("*a", 400), strings.Repeat("**/", 300) + "x", "[" + strings.Repeat("a-z", 300) + "]*b", strings.Repeat("x", 2000)}
	l := New(lines)
	if l.Len() != 3 {
		t.Errorf("%d rules", l.Len())
	}
	path := strings.Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/", 127) + strings.Repeat("a", 255)
	begin := time.Now()
	for range 100 {
		l.Match(path, false)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("100 matches took %v", took)
	}
	if New(make([]string, 20)).Len() != 0 || Parse([]byte(strings.Repeat("a\n", 3*MaxRules))).Len() != MaxRules {
		t.Error("the number of rules is not bounded")
	}
}
