package files

import (
	"bytes"
	"context"
	"io"
	"time"
	"unicode/utf8"

	"chorus-sandbox/guest/internal/fault"
)

const (
	maxLineRunes = 2000
	// Files above this are not read to their end only to count lines.
	countMax = 64 << 20
	// Looking for a line far into a huge file takes at most this long.
	searchMax = 5 * time.Second
)

// lineReader collects the asked lines while it goes through the file once.
type lineReader struct {
	first, last int64 // last 0: to the end
	limit       int64

	line    int64 // the line the next byte belongs to
	out     []byte
	runes   int   // characters of the current line that were taken
	at      int   // where the current line begins in out
	begins  int64 // offset in the file of the first taken line
	full    bool  // the budget is used up
	stop    int64 // first line that was not taken
	cut     int
	wasCut  bool
	partial []byte // a character that is not complete yet
	open    bool   // the current line has bytes
}

func readLines(ctx context.Context, fd int, size int64, r ReadRequest, h *ReadHeader) ([]byte, error) {
	l := &lineReader{first: max(1, r.LineStart), last: r.LineEnd, limit: r.MaxBytes, line: 1}
	c := &cursor{ctx: ctx, fd: fd}
	limit := time.Now().Add(searchMax)
	whole := false
	for {
		block, err := c.next()
		if err == io.EOF {
			whole = true
			break
		}
		if err != nil {
			return nil, err
		}
		l.feed(block, c.offset-int64(len(block)))
		if l.finished() && size > countMax {
			break
		}
		if time.Now().After(limit) {
			if l.line < l.first {
				return nil, fault.New(fault.LimitExceeded,
					"line %d was not reached within %v (line %d is at offset %d); read by offset instead", l.first, searchMax, l.line, c.offset).With("kind", "size")
			}
			break
		}
	}
	l.flush()
	l.report(h, whole)
	if l.first > 1 && whole && l.first > l.total() {
		return nil, fault.New(fault.InvalidArgument, "line_start %d lies behind the last line, which is %d", l.first, l.total()).With("total_lines", l.total())
	}
	return l.out, nil
}

func (l *lineReader) finished() bool { return l.full || l.last > 0 && l.line > l.last }

// total is the number of lines; a last line without a newline counts.
func (l *lineReader) total() int64 {
	if l.open {
		return l.line
	}
	return l.line - 1
}

func (l *lineReader) feed(block []byte, offset int64) {
	for len(block) > 0 {
		if l.finished() || l.line < l.first {
			n := l.skip(block)
			block, offset = block[n:], offset+int64(n)
			continue
		}
		if !l.open && len(l.out) == 0 && l.line == l.first {
			l.begins = offset
		}
		piece := block
		i := bytes.IndexByte(block, '\n')
		if i >= 0 {
			piece = block[:i+1]
		}
		l.take(piece, i >= 0)
		block, offset = block[len(piece):], offset+int64(len(piece))
	}
}

// skip passes over lines that are not wanted, whole blocks at a time when no wanted line begins in them.
func (l *lineReader) skip(block []byte) int {
	if l.finished() {
		l.line += int64(bytes.Count(block, []byte{'\n'}))
		l.open = block[len(block)-1] != '\n'
		return len(block)
	}
	i := bytes.IndexByte(block, '\n')
	if i < 0 {
		l.open = true
		return len(block)
	}
	l.line, l.open = l.line+1, false
	return i + 1
}

// take adds a piece of a wanted line.
func (l *lineReader) take(piece []byte, ends bool) {
	if !l.open {
		l.at, l.runes, l.wasCut = len(l.out), 0, false
	}
	l.open = true
	text := piece
	if ends {
		text = piece[:len(piece)-1]
	}
	l.add(text)
	if ends {
		l.flush()
		l.out = append(l.out, '\n')
		l.line, l.open = l.line+1, false
	}
	if int64(len(l.out)) > l.limit && !l.full {
		l.overflow(ends)
	}
}

// add takes characters up to the bound of a line.
func (l *lineReader) add(text []byte) {
	if len(l.partial) > 0 {
		text = append(l.partial, text...)
		l.partial = nil
	}
	for len(text) > 0 && l.runes < maxLineRunes {
		if !utf8.FullRune(text) {
			l.partial = bytes.Clone(text)
			return
		}
		_, n := utf8.DecodeRune(text)
		l.out, text = append(l.out, text[:n]...), text[n:]
		l.runes++
	}
	if len(text) > 0 && !l.wasCut {
		l.wasCut = true
		l.cut++
	}
}

func (l *lineReader) flush() {
	if len(l.partial) > 0 {
		l.out, l.partial = append(l.out, l.partial...), nil
	}
}

// overflow gives the line back that did not fit; the first one is cut instead, so that every call gets further.
func (l *lineReader) overflow(ended bool) {
	line := l.line
	if ended {
		line--
	}
	l.full, l.partial = true, nil
	if l.at > 0 {
		l.out = l.out[:l.at]
		if l.wasCut {
			l.cut--
		}
		l.stop = line
		return
	}
	l.out = l.out[:l.limit]
	for i := 0; i < utf8.UTFMax && len(l.out) > 0; i++ {
		if r, n := utf8.DecodeLastRune(l.out); r != utf8.RuneError || n != 1 {
			break
		}
		l.out = l.out[:len(l.out)-1]
	}
	if !l.wasCut {
		l.cut++
	}
	l.stop = line + 1
}

func (l *lineReader) report(h *ReadHeader, whole bool) {
	first := l.first
	h.LineStart, h.Offset, h.CutLines = &first, l.begins, l.cut
	last := l.total()
	if l.last > 0 {
		last = min(last, l.last)
	}
	if l.full {
		last = l.stop - 1
	}
	h.LineEnd = &last
	if whole {
		total := l.total()
		h.TotalLines = &total
	}
	if next := last + 1; !whole || next <= l.total() {
		h.NextLine = &next
	}
	h.Omitted = l.cut > 0 || h.NextLine != nil && (l.last == 0 || last < l.last)
}
