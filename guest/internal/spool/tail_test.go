package spool

import (
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text   string
		offset int64
		n      int64
		want   string
	}{
		{"", 0, 3, ""}, {"a", 0, 1, "a"}, {"a\n", 0, 1, "a\n"}, {"a\nb\nc\n", 0, 2, "b\nc\n"}, {"a\nb\nc", 0, 2, "b\nc"}, {"a\nb\n", 0, 9, "a\nb\n"},
		{"a\nb\nc\n", 3, 2, "\nc\n"}, {"\n\n\n", 0, 2, "\n\n"}, {strings.Repeat("x", 5000) + "\nend\n", 0, 1, "end\n"},
		{strings.Repeat("long "+strings.Repeat("y", 1000)+"\n", 500), 0, 300, strings.Repeat("long "+strings.Repeat("y", 1000)+"\n", 300)},
	} {
		s := New(NewBudget(BudgetMax))
		s.Write([]byte(c.text))
		got := c.text[s.LastLines(c.offset, c.n):]
		if got != c.want {
			t.Errorf("last %d of %.40q from %d: %.40q", c.n, c.text, c.offset, got)
		}
	}
	s := New(NewBudget(BudgetMax))
	s.Write([]byte(strings.Repeat("z\n", 5<<20)))
	kept, _ := s.Kept()
	if at := s.LastLines(0, 1<<40); at != kept[1].From {
		t.Errorf("%d of %v", at, kept)
	}
}

func TestCutTail(t *testing.T) {
	s := New(NewBudget(BudgetMax))
	text := strings.Repeat("ein Wört\n", 100) + strings.Repeat("漢", 1000)
	s.Write([]byte(text))
	for limit := int64(1); limit < 4000; limit += 7 {
		g := s.CutTail(0, limit, false)[0]
		if int64(len(g.Data)) > limit || string(g.Data) != text[g.From:] || limit > 3 && strings.ToValidUTF8(string(g.Data), "") != string(g.Data) {
			t.Errorf("limit %d: %d bytes at %d", limit, len(g.Data), g.From)
		}
		if limit > 3500 && !strings.HasPrefix(string(g.Data), "ein") {
			t.Errorf("limit %d: begins with %.20q", limit, g.Data)
		}
	}
}
