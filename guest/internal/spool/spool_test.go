package spool

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// The model is the whole stream: whatever the spool says it keeps has to be equal to it.
func TestSpoolAgainstTheWholeStream(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		budget := NewBudget(BudgetMax)
		s := New(budget)
		var whole []byte
		losses := 0
		s.OnLoss = func() { losses++ }
		size := random.IntN(12 << 20)
		for len(whole) < size {
			p := make([]byte, 1+random.IntN(1+random.IntN(200_000)))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			whole = append(whole, p...)
			s.Write(p)
		}
		check(t, s, whole)
		kept, _ := s.Kept()
		lost := int64(len(whole)) - sum(kept)
		if (losses == 1) != (lost > 0) || losses > 1 {
			t.Errorf("seed %d: told of loss %d times, lost %d", seed, losses, lost)
		}
		if len(whole) <= 3<<20 && lost > 0 {
			t.Errorf("seed %d: lost %d of %d bytes", seed, lost, len(whole))
		}
		if sum(kept) > HeadMax+TailMax || budget.Used() > HeadMax+TailMax+2*chunkMax {
			t.Errorf("seed %d: keeps %d, costs %d", seed, sum(kept), budget.Used())
		}
		s.Close()
		if budget.Used() != 0 {
			t.Errorf("seed %d: %d bytes are still accounted", seed, budget.Used())
		}
	}
}

func check(t *testing.T, s *Spool, whole []byte) {
	t.Helper()
	kept, total := s.Kept()
	if total != int64(len(whole)) || len(kept) > 2 {
		t.Fatalf("total %d of %d, kept %v", total, len(whole), kept)
	}
	if n := len(kept); n > 0 && kept[n-1].To != total {
		t.Fatalf("the end is missing: %v of %d", kept, total)
	}
	buf := make([]byte, 100_000)
	for _, r := range kept {
		for at := r.From; at < r.To; {
			n, got := s.ReadAt(buf, at)
			if n == 0 || got != at || !bytes.Equal(buf[:n], whole[at:at+int64(n)]) {
				t.Fatalf("at %d: read %d bytes from %d", at, n, got)
			}
			at += int64(n)
		}
	}
	if n, at := s.ReadAt(buf, total); n != 0 || at != total {
		t.Fatalf("behind the end: %d bytes at %d", n, at)
	}
}

func TestSmallOutputCostsLittle(t *testing.T) {
	budget := NewBudget(BudgetMax)
	New(budget).Write([]byte("ten bytes!"))
	if budget.Used() > 1024 {
		t.Errorf("10 bytes cost %d", budget.Used())
	}
}

func TestBudgetEvictsTheOldestEndedFirstAndThenTheLargest(t *testing.T) {
	budget := NewBudget(8 << 20)
	block := bytes.Repeat([]byte("x"), 3<<20)
	first, second, running := New(budget), New(budget), New(budget)
	first.Write(block)
	second.Write(block)
	first.Seal()
	second.Seal()
	running.Write(block)
	if first.Available(0) != 0 || second.Available(0) != 3<<20 || running.Available(0) != 3<<20 {
		t.Errorf("%d %d %d", first.Available(0), second.Available(0), running.Available(0))
	}
	if n, at := first.ReadAt(make([]byte, 1), 0); n != 0 || at != 3<<20 {
		t.Errorf("an evicted spool says %d at %d", n, at)
	}
	var all []*Spool
	for range 20 {
		s := New(budget)
		all = append(all, s)
		s.Write(block)
		s.Write([]byte("the end"))
	}
	if budget.Used() > 8<<20 {
		t.Errorf("20 running spools use %d", budget.Used())
	}
	for i, s := range all {
		kept, total := s.Kept()
		if total != 3<<20+7 || len(kept) > 2 {
			t.Errorf("%d: %v of %d", i, kept, total)
		}
	}
}

func TestALossToOthersIsToldOnceAndOnlyWhileTheProcessRuns(t *testing.T) {
	budget := NewBudget(8 << 20)
	block := bytes.Repeat([]byte("x"), 3<<20)
	told := map[string]int{}
	spool := func(name string) *Spool {
		s := New(budget)
		s.OnLoss = func() {
			told[name]++
			if budget.Used() == 0 || s.Total() == 0 { // whoever is told may look at both
				t.Errorf("%s: nothing is there", name)
			}
		}
		return s
	}
	ended, running, writer := spool("ended"), spool("running"), spool("writer")
	ended.Write(block)
	ended.Seal()
	running.Write(block)
	writer.Write(block)
	if len(told) > 0 || ended.Available(0) != 0 {
		t.Errorf("told %v, %d bytes of the ended one are left", told, ended.Available(0))
	}
	spool("another").Write(block)
	kept, _ := running.Kept()
	if told["running"] != 1 || sum(kept) == 3<<20 {
		t.Errorf("told %v, running keeps %v", told, kept)
	}
	running.Write(block)
	running.Write(block)
	running.Close()
	if told["running"] != 1 || told["ended"] != 0 {
		t.Errorf("told %v", told)
	}
}

func TestCut(t *testing.T) {
	s := New(NewBudget(BudgetMax))
	text := strings.Repeat("a line with ümlauts and 漢字\n", 1000)
	s.Write([]byte(text))
	for limit := int64(1); limit < 3000; limit += 37 {
		for _, offset := range []int64{0, 5, 900} {
			segments := s.Cut(offset, limit, false)
			var got int64
			for i, g := range segments {
				got += int64(len(g.Data))
				if string(g.Data) != text[g.From:g.To()] {
					t.Fatalf("limit %d: wrong bytes at %d", limit, g.From)
				}
				if len(g.Data) > 0 && g.From != offset && !utf8.RuneStart(g.Data[0]) || limit > 8 && !utf8.Valid(g.Data[min(len(g.Data), 3):]) {
					t.Errorf("limit %d offset %d: segment %d is cut inside a character: %q", limit, offset, i, g.Data)
				}
				if limit > 300 && i == 0 && len(segments) == 2 && !bytes.HasSuffix(g.Data, []byte("\n")) {
					t.Errorf("limit %d: the head does not end with a line: %q", limit, g.Data)
				}
			}
			if got > limit || limit > 300 && got < limit*2/3 {
				t.Errorf("limit %d: %d bytes", limit, got)
			}
		}
	}
	head, tail := s.Cut(0, 3000, false)[0], s.Cut(0, 3000, false)[1]
	if h := len(head.Data); h < 900 || h > 1000 || tail.To() != int64(len(text)) {
		t.Errorf("head has %d bytes, tail ends at %d", h, tail.To())
	}
}

func TestCutHoldsAnOpenCharacterBackWhileMoreMayCome(t *testing.T) {
	s := New(NewBudget(BudgetMax))
	s.Write([]byte("progress \xe6\xbc"))
	if got := s.Cut(0, 100, true); string(got[0].Data) != "progress " {
		t.Errorf("%q", got[0].Data)
	}
	if got := s.Cut(0, 100, false); string(got[0].Data) != "progress \xe6\xbc" {
		t.Errorf("%q", got[0].Data)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := New(NewBudget(BudgetMax))
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		s.Write(p)
	}
}
