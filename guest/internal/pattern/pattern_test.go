package pattern

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func never() bool { return false }

// What is skipped without matching must be what would not have matched.
func TestShortcutsChangeNothing(t *testing.T) {
	lines := []string{"", "func main() {", "FUNC Main", "a task", "a TAſK", "a taſ\u212A", "xx", "ab ab", "é ü", "k", "\u212A", "the end\r", "aXbXc", "\xff\xfe"}
	for _, text := range []string{"func", "func \\w+\\(", "(main|end)", "(ab )+ab", "x{2}", "task", "k", "TASK$", "^a", "X.*X", "(a task)?", "é", "end$", "\\bma", "[[:upper:]]", "abc|", "\xc3\xa9 ü"} {
		for _, fold := range []bool{false, true} {
			p, err := Compile(text, fold)
			if err != nil {
				t.Fatal(err)
			}
			re := regexp.MustCompile(map[bool]string{true: "(?i)", false: ""}[fold] + text)
			for _, line := range lines {
				bare := Line([]byte(line + "\n"))
				from, to, ok := p.Find(bare, never)
				at := re.FindIndex(bare)
				if ok != (at != nil) || ok && (at[0] != from || at[1] != to) {
					t.Errorf("%q (fold %v) in %q: %v, wanted %v", text, fold, line, []int{from, to}, at)
				}
				slow := *p
				slow.size = shortWork
				if long := []byte(line + strings.Repeat("-", shortLine)); ok != (re.Match(bare)) || re.Match(long) != func() bool { _, _, ok := slow.Find(long, never); return ok }() {
					t.Errorf("%q (fold %v) in the long %q", text, fold, line)
				}
			}
			whole, skipped := []byte(strings.Join(lines, "\n")), 0
			for rest := whole; len(rest) > 0; {
				n := p.Skip(rest)
				for _, line := range strings.Split(strings.TrimSuffix(string(rest[:n]), "\n"), "\n") {
					if skipped += n; n > 0 && re.MatchString(strings.TrimSuffix(line, "\r")) {
						t.Errorf("%q (fold %v) skips %q", text, fold, line)
					}
				}
				rest = rest[n:]
				if i := strings.IndexByte(string(rest), '\n'); i >= 0 {
					rest = rest[i+1:]
				} else {
					rest = nil
				}
			}
		}
	}
}

func TestWhatCostsTooMuchIsRefused(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", MaxLen+1), "(((x{20}){20}){20})", strings.Repeat("(a{900})", 3), "(", `(?<n>a)\k<n>`, "a**", strings.Repeat("(", 600) + strings.Repeat(")", 600)} {
		begin := time.Now()
		if _, err := Compile(text, false); err == nil {
			t.Errorf("%.30q is accepted", text)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%.30q took %v", text, took)
		}
	}
	if _, err := Compile("x{1000}", true); err != nil {
		t.Error(err)
	}
}

func TestLongLinesCanBeStopped(t *testing.T) {
	p, err := Compile("(a?){200}(b?){200}[cd]", false)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, _, ok := p.Find([]byte(strings.Repeat("a", 1<<20)+"c"), func() bool { return time.Since(begin) > 50*time.Millisecond }); ok {
		t.Error("it matched")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestClip(t *testing.T) {
	line := []byte(strings.Repeat("é", 50) + "HERE" + strings.Repeat("字", 50))
	for limit := 8; limit < 120; limit++ {
		for _, from := range []int{0, 100, len(line)} {
			got := Clip(line, from, limit)
			if n := utf8.RuneCountInString(got); n > limit || n < min(limit-1, 104) || !utf8.ValidString(got) {
				t.Errorf("limit %d from %d: %d characters: %q", limit, from, n, got)
			}
			if from == 100 && !strings.Contains(got, "HERE") {
				t.Errorf("limit %d: %q", limit, got)
			}
		}
	}
	if got := Clip([]byte("a\xffb"), 0, 10); got != "a\uFFFDb" {
		t.Errorf("%q", got)
	}
}
