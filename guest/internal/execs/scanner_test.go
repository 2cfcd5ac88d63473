package execs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"chorus-sandbox/guest/internal/pattern"
	"chorus-sandbox/guest/internal/spool"
)

func compiled(t *testing.T, text string) *pattern.Pattern {
	t.Helper()
	p, err := pattern.Compile(text, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func never() bool { return false }

// Whatever way output comes in, a scanner that looks in between finds what is there, and every whole line once.
func TestScannerFindsLinesAcrossAllBorders(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 2))
		s := spool.New(spool.NewBudget(spool.BudgetMax))
		scanner := newScanner(s, 0)
		var text strings.Builder
		for n := 0; text.Len() < 400_000; n++ {
			fmt.Fprintf(&text, "%d %s\n", n, strings.Repeat("x", random.IntN(1+random.IntN(9000))))
		}
		var got []string
		look := func() {
			scanner.scan(func(l line) bool {
				if l.size > len(l.text) {
					got = append(got, string(l.text))
				}
				return random.IntN(10) > 0
			})
		}
		for rest := text.String(); len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(70_000)))
			s.Write([]byte(rest[:n]))
			rest = rest[n:]
			look()
		}
		for range len(text.String()) {
			before := len(got)
			if look(); len(got) == before && scanner.used == 0 {
				break
			}
		}
		if strings.Join(got, "\n")+"\n" != text.String() {
			t.Fatalf("seed %d: %d lines", seed, len(got))
		}
	}
}

func TestScannerOnLongLinesAndGaps(t *testing.T) {
	for _, at := range []int{0, 10, scanBlock - 3, scanBlock, scanBlock + 70, 5*scanBlock - 700} {
		s := spool.New(spool.NewBudget(spool.BudgetMax))
		a := &awaiter{pattern: compiled(t, "needle>$"), stop: never, streams: [2]namedScanner{{"stdout", newScanner(s, 0)}, {"stderr", newScanner(s, 1<<40)}}}
		line := strings.Repeat("é", at/2)
		s.Write([]byte("first\n" + line))
		if found, through := a.look(false); found != nil || !through {
			t.Fatal("found nothing and something")
		}
		s.Write([]byte("need"))
		a.look(true)
		s.Write([]byte("le>"))
		found, _ := a.look(false)
		if found == nil || found.Offset != 6 || !strings.HasSuffix(found.Line, "needle>") || len([]rune(found.Line)) > maxMatched {
			t.Errorf("behind %d bytes: %+v", at, found)
		}
	}
	s := spool.New(spool.NewBudget(spool.BudgetMax))
	scanner := newScanner(s, 0)
	s.Write([]byte("half a li"))
	scanner.scan(func(line) bool { return true })
	s.Write([]byte(strings.Repeat(strings.Repeat("y", 99)+"\n", 60_000)))
	s.Write([]byte("end"))
	var lines, odd int
	var last line
	scanner.scan(func(l line) bool {
		last = l
		last.text = []byte(string(l.text))
		if lines++; len(l.text) != 99 {
			odd++
		}
		return true
	})
	if lines < 35_000 || odd > 4 || string(last.text) != "end" || last.begin != 6_000_009 {
		t.Errorf("%d lines, %d odd ones, the last %q at %d", lines, odd, last.text, last.begin)
	}
}

// A line that grows by a byte at a time is the worst there is for a waiter.
func TestGrowingLineIsNotQuadratic(t *testing.T) {
	s := spool.New(spool.NewBudget(spool.BudgetMax))
	scanner := newScanner(s, 0)
	looked := 0
	for range 2000 {
		s.Write([]byte(strings.Repeat(".", 1000)))
		scanner.scan(func(l line) bool { looked += len(l.text); return true })
	}
	if most := 2000 * scanBlock; looked > most {
		t.Errorf("looked at %d bytes, %d at most", looked, most)
	}
	scanner.scan(func(line) bool { t.Error("looked again at what had been seen"); return true })
}

func TestFinder(t *testing.T) {
	s := spool.New(spool.NewBudget(spool.BudgetMax))
	var text strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&text, "line %d\n", n)
	}
	long := strings.Repeat("a", 100_000) + "line 7" + strings.Repeat("b", 100_000)
	text.WriteString(long + "\nlast line 7\r\nopen")
	whole := text.String()
	s.Write([]byte(whole))
	show := func(p string, limit int64, most int) (*finder, string) {
		f := find(s, 0, compiled(t, p), never)
		var all []string
		for _, g := range f.cut(s, limit, most) {
			if string(g.Data) != whole[g.From:g.To()] {
				t.Errorf("%s: wrong bytes at %d", p, g.From)
			}
			all = append(all, string(g.Data))
		}
		return f, strings.Join(all, "|")
	}
	for _, c := range []struct {
		pattern, want string
		total         int
	}{
		{"line (5|7|50|998)$", "line 4\nline 5\nline 6\nline 7\nline 8\n|line 49\nline 50\nline 51\n|line 997\nline 998\nline 999\n", 4 + 1},
		{"^line 0$", "line 0\nline 1\n", 1},
		{"nope", "", 0},
	} {
		f, got := show(c.pattern, 1<<20, maxSpans)
		if !strings.HasPrefix(got, c.want) || f.total != c.total {
			t.Errorf("%s: %d lines, %.300q", c.pattern, f.total, got)
		}
	}
	f, got := show("aline 7|^open$", 1<<20, maxSpans)
	if f.total != 2 || len(f.spans) != 3 || !strings.Contains(got, strings.Repeat("a", spanLead)+"line 7b") || !strings.HasSuffix(got, "last line 7\r\nopen") {
		t.Errorf("%d %v", f.total, f.spans)
	}
	if f.size() > 5*spanMax {
		t.Errorf("%d bytes", f.size())
	}
	if f, _ := show("0$", 1<<20, maxSpans); f.total != 100 || len(f.spans) != 100 {
		t.Errorf("%d in %d", f.total, len(f.spans))
	}
	if f, got := show("[0369]$", 50, 2); f.total != 400 || len(got) > 51 || len(f.spans) > maxSpans {
		t.Errorf("%d in %d: %q", f.total, len(f.spans), got)
	}
	begin := time.Now()
	if f := find(s, 0, compiled(t, "(a?){200}(b?){200}[cd]"), func() bool { return time.Since(begin) > 50*time.Millisecond }); !f.partial || time.Since(begin) > 2*time.Second {
		t.Errorf("partial %v after %v", f.partial, time.Since(begin))
	}
}
