package execs

import (
	"bytes"

	"chorus-sandbox/guest/internal/pattern"
	"chorus-sandbox/guest/internal/spool"
)

const (
	// scanBlock is how much of a spool is copied at once. A longer line is matched in pieces of this size, which
	// overlap, so that short matches are found wherever they are.
	scanBlock   = 64 << 10
	scanOverlap = pattern.MaxLen
)

// line is one that a scanner comes to: whole, the piece of a long one, or the unfinished one at the end.
type line struct {
	begin int64 // of the whole line
	from  int64 // of text
	text  []byte
	size  int // of text with its end
}

// scanner goes through the lines of a spool once. It copies a block at a time, so the process that writes never waits
// for a pattern.
type scanner struct {
	spool *spool.Spool
	buf   []byte
	from  int64 // of buf in the stream
	used  int   // bytes in buf
	begin int64 // of the line that buf begins with
	seen  int   // how much of an unfinished line has been looked at
}

func newScanner(s *spool.Spool, offset int64) *scanner {
	return &scanner{spool: s, from: offset, begin: offset}
}

// scan calls visit with each line until it says no, or all there is has been looked at. What was whole is not visited
// again; an unfinished line is, when there is more of it.
func (s *scanner) scan(visit func(l line) (more bool)) {
	if s.buf == nil && s.spool.Available(s.from) > 0 {
		s.buf = make([]byte, scanBlock)
	}
	for s.buf != nil {
		n, at := s.spool.ReadAt(s.buf[s.used:], s.from+int64(s.used))
		if at != s.from+int64(s.used) && n > 0 {
			// The spool has lost what is between: the line ends here as well as it can.
			if s.used > s.seen && !visit(line{s.begin, s.from, pattern.Line(s.buf[:s.used]), s.used}) {
				return
			}
			copy(s.buf, s.buf[s.used:s.used+n])
			s.from, s.begin, s.used, s.seen = at, at, 0, 0
		}
		s.used += n
		if !s.lines(visit) {
			return
		}
		if n == 0 || s.used < len(s.buf) && s.spool.Available(s.from+int64(s.used)) == 0 {
			break
		}
	}
	if s.used > s.seen {
		s.seen = s.used
		visit(line{s.begin, s.from, pattern.Line(s.buf[:s.used]), s.used})
	}
}

// lines visits the whole lines in the buffer and keeps the rest.
func (s *scanner) lines(visit func(l line) (more bool)) bool {
	p := 0
	defer func() {
		if p > 0 {
			s.used = copy(s.buf, s.buf[p:s.used])
			s.from, s.seen = s.from+int64(p), 0
		}
	}()
	for {
		i := bytes.IndexByte(s.buf[p:s.used], '\n')
		if i < 0 {
			break
		}
		text, begin, from := s.buf[p:p+i+1], s.begin, s.from+int64(p)
		p += i + 1
		s.begin = s.from + int64(p)
		if !visit(line{begin, from, pattern.Line(text), len(text)}) {
			return false
		}
	}
	if p == 0 && s.used == len(s.buf) {
		p = s.used - scanOverlap
		return visit(line{s.begin, s.from, s.buf[:s.used], s.used})
	}
	return true
}
