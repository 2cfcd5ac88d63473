package execs

import (
	"chorus-sandbox/guest/internal/pattern"
	"chorus-sandbox/guest/internal/spool"
)

const (
	maxSpans = 200
	// spanMax is what one line may take of an answer, and spanLead how much of that lies before its match.
	spanMax  = 4 << 10
	spanLead = 1 << 10
)

// span is a range of a stream that is shown.
type span struct{ from, to int64 }

// finder collects the lines that match, each with one line before and one behind it.
type finder struct {
	pattern *pattern.Pattern
	stop    func() bool
	spans   []span
	total   int
	partial bool // it was stopped
	crowded bool // there was more to show than maxSpans

	begin  int64 // of the line that was visited last, maybe in pieces
	end    span  // its end
	before span  // the end of the line before it
	after  bool  // the next line is shown as well
	last   int64 // where the last line that matched begins
}

func find(s *spool.Spool, offset int64, p *pattern.Pattern, stop func() bool) *finder {
	f := &finder{pattern: p, stop: stop, begin: -1, last: -1}
	count := 0
	newScanner(s, offset).scan(func(l line) bool {
		f.visit(l)
		count++
		f.partial = count%stopEvery == 0 && stop()
		return !f.partial
	})
	f.partial = f.partial || stop()
	return f
}

func (f *finder) visit(l line) {
	end := l.from + int64(l.size)
	if l.begin != f.begin {
		f.begin, f.before = l.begin, f.end
	}
	f.end = span{max(l.from, end-spanMax), end}
	from, _, ok := f.pattern.Find(l.text, f.stop)
	switch {
	case ok:
		if l.begin != f.last {
			f.total++
		}
		f.last = l.begin
		f.show(f.before)
		begin := l.from
		if l.size > spanMax {
			begin += int64(max(0, min(from-spanLead, l.size-spanMax)))
		}
		f.show(span{begin, min(end, begin+spanMax)})
		f.after = true
	case f.after && l.begin != f.last:
		f.show(span{l.from, min(end, l.from+spanMax)})
		f.after = false
	}
}

// show adds a range behind the others, or joins it to the last one.
func (f *finder) show(s span) {
	n := len(f.spans)
	switch {
	case s.from == s.to:
	case n > 0 && s.from <= f.spans[n-1].to:
		f.spans[n-1].to = max(f.spans[n-1].to, s.to)
	case n < maxSpans:
		f.spans = append(f.spans, s)
	default:
		f.crowded = true
	}
}

func (f *finder) size() (n int64) {
	for _, s := range f.spans {
		n += s.to - s.from
	}
	return n
}

// cut copies the first ranges that fit, and a part of one that does not fit if it is the only one.
func (f *finder) cut(from *spool.Spool, limit int64, most int) (list []spool.Segment) {
	for _, s := range f.spans[:min(most, len(f.spans))] {
		size := s.to - s.from
		if size > limit {
			if len(list) > 0 || limit == 0 {
				break
			}
			size = limit
		}
		data := make([]byte, size)
		n, at := from.ReadAt(data, s.from)
		if n > 0 && at == s.from { // it is not lost meanwhile
			list = append(list, spool.Segment{From: at, Data: data[:n]})
			limit -= int64(n)
		}
	}
	return list
}
