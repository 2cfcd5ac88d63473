package spool

import (
	"bytes"
	"unicode/utf8"
)

// Segment is a piece of the stream.
type Segment struct {
	From int64
	Data []byte
}

// To is the offset after the segment.
func (g Segment) To() int64 { return g.From + int64(len(g.Data)) }

// Available is how many kept bytes lie at or beyond offset.
func (s *Spool) Available(offset int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sum(clip(s.ranges(), offset))
}

// Cut copies at most limit bytes from offset on: all, or a third from the head and the rest from the tail, on line
// borders where there are some and never inside a UTF-8 character. live holds back a character that is not complete yet.
func (s *Spool) Cut(offset, limit int64, live bool) []Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	ranges := clip(s.ranges(), offset)
	if len(ranges) == 0 || limit <= 0 {
		return nil
	}
	end := s.total
	if sum(ranges) <= limit {
		var all []Segment
		for _, r := range ranges {
			all = append(all, s.copyOf(r))
		}
		last := &all[len(all)-1]
		if live && last.To() == end {
			last.Data = trimOpen(last.Data, len(last.Data) > 4)
		}
		return all
	}
	first, final := ranges[0], ranges[len(ranges)-1]
	head := s.copyOf(Range{first.From, min(first.To, first.From+limit/3)})
	if head.To() < end {
		head.Data = cutEnd(head.Data)
	}
	from := final.To - (limit - int64(len(head.Data)))
	from = max(from, max(final.From, head.To()))
	tail := s.copyOf(Range{from, final.To})
	if from > head.To() {
		skip := cutStart(tail.Data)
		tail.From, tail.Data = tail.From+int64(skip), tail.Data[skip:]
	}
	if live {
		tail.Data = trimOpen(tail.Data, true)
	}
	return join(head, tail)
}

// CutTail copies the last bytes from offset on, at most limit, and begins with a line where that does not cost too much.
func (s *Spool) CutTail(offset, limit int64, live bool) []Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	ranges := clip(s.ranges(), offset)
	if len(ranges) == 0 || limit <= 0 {
		return nil
	}
	last := ranges[len(ranges)-1]
	from := max(last.From, last.To-limit)
	tail := s.copyOf(Range{from, last.To})
	if from > last.From {
		skip := cutStart(tail.Data)
		tail.From, tail.Data = tail.From+int64(skip), tail.Data[skip:]
	}
	if live {
		tail.Data = trimOpen(tail.Data, len(tail.Data) > 4)
	}
	return []Segment{tail}
}

// LastLines is where the last n lines begin; with fewer lines, where what is kept without a gap begins. It is never less
// than offset.
func (s *Spool) LastLines(offset, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := s.total
	for i := len(s.chunks) - 1; i >= 0 && begin > offset; i-- {
		c := s.chunks[i]
		if len(c.data) == 0 {
			continue
		}
		if c.to() != begin {
			break
		}
		begin = c.from
		data := c.data
		if c.to() == s.total && data[len(data)-1] == '\n' {
			data = data[:len(data)-1] // the end of the last line begins none
		}
		for at := bytes.LastIndexByte(data, '\n'); at >= 0; at = bytes.LastIndexByte(data, '\n') {
			if n--; n == 0 {
				return max(offset, c.from+int64(at)+1)
			}
			data = data[:at]
		}
	}
	return max(offset, begin)
}

func join(head, tail Segment) []Segment {
	switch {
	case len(head.Data) == 0:
		return []Segment{tail}
	case len(tail.Data) == 0:
		return []Segment{head}
	case head.To() == tail.From:
		return []Segment{{head.From, append(head.Data, tail.Data...)}}
	}
	return []Segment{head, tail}
}

func (s *Spool) copyOf(r Range) Segment {
	data := make([]byte, r.To-r.From)
	n, _ := s.readAt(data, r.From)
	return Segment{r.From, data[:n]}
}

func clip(ranges []Range, offset int64) []Range {
	var out []Range
	for _, r := range ranges {
		if r.From = max(r.From, offset); r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}

func sum(ranges []Range) (n int64) {
	for _, r := range ranges {
		n += r.To - r.From
	}
	return n
}

// cutEnd shortens a head to its last full line, if that costs at most half of it, else to its last full character.
func cutEnd(p []byte) []byte {
	if i := bytes.LastIndexByte(p, '\n'); i+1 > len(p)/2 {
		return p[:i+1]
	}
	return trimOpen(p, true)
}

// cutStart tells how much of a tail to skip to begin with a line, if that costs at most half of it, else a character.
func cutStart(p []byte) int {
	if i := bytes.IndexByte(p, '\n'); i >= 0 && i+1 < len(p) && i < len(p)/2 {
		return i + 1
	}
	for i := 0; i < len(p) && i < utf8.UTFMax; i++ {
		if utf8.RuneStart(p[i]) {
			return i
		}
	}
	return 0
}

// trimOpen drops a character at the end that lacks bytes.
func trimOpen(p []byte, may bool) []byte {
	for i := len(p) - 1; may && i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return p[:i]
			}
			break
		}
	}
	return p
}
