package files

import (
	"bytes"

	"chorus-sandbox/guest/internal/pattern"
	"chorus-sandbox/guest/internal/sys"
)

const (
	// A file is searched in blocks of whole lines. A longer line makes the block grow; one longer than blockMax is
	// searched in pieces.
	blockMin = 256 << 10
	blockMax = 1 << 20
	// maxText is what is told of a line.
	maxText = 500
	// binaryLook is how much of a file is looked at for a NUL.
	binaryLook = 8 << 10
	// contextLook is how far around a match lines are looked for.
	contextLook = 64 << 10
	// overEvery is how many lines are matched between two looks at the clock.
	overEvery = 64
)

// position is where a block of lines stands in its file.
type position struct {
	base   int64 // of the block's first byte
	number int64 // of its first line
	told   bool  // the line it begins in the middle of has matched already
}

// scan searches the open file. One that cannot be read to its end any more is searched as far as it can.
func (s *searcher) scan() {
	if bytes.IndexByte(s.buf[:min(s.end, binaryLook)], 0) >= 0 {
		return
	}
	s.out.FilesSearched++
	for at := (position{number: 1}); ; s.fill(at.base) {
		last := s.end < len(s.buf) || at.base > searchFile
		whole := s.end
		if !last {
			whole = bytes.LastIndexByte(s.buf[:s.end], '\n') + 1
		}
		if whole == 0 && !last {
			if len(s.buf) < blockMax {
				s.buf = append(s.buf, make([]byte, len(s.buf))...)
				continue
			}
			whole = s.end
		}
		s.block(s.buf[:whole], &at)
		if last || s.over() {
			return
		}
		s.end = copy(s.buf, s.buf[whole:s.end])
		at.base += int64(whole)
	}
}

// fill reads on; base is where in the file the buffer begins.
func (s *searcher) fill(base int64) {
	_ = s.f.do(s.ctx, s.path, func() error {
		n, err := sys.ReadFull(s.fd, s.buf[s.end:], base+int64(s.end))
		s.end, s.read = s.end+n, s.read+int64(n)
		return err
	})
}

// block searches whole lines, or a piece of a very long one.
func (s *searcher) block(text []byte, at *position) {
	for p, count := 0, 0; p < len(text); count++ {
		if count%overEvery == overEvery-1 && s.over() {
			return
		}
		if skip := s.pattern.Skip(text[p:]); skip > 0 {
			if lines := bytes.Count(text[p:p+skip], []byte{'\n'}); lines > 0 {
				at.number, at.told = at.number+int64(lines), false
			}
			p += skip
			continue
		}
		line := text[p:]
		i := bytes.IndexByte(line, '\n')
		if i >= 0 {
			line = line[:i+1]
		}
		if bare := pattern.Line(line); !at.told {
			if from, _, ok := s.pattern.Find(bare, s.over); ok {
				begin := at.base + int64(p)
				s.hit(bare, from, at.number, begin, begin+int64(len(line)))
				at.told = true
				if s.out.Omitted >= omittedMax {
					return
				}
			}
		}
		p += len(line)
		if i >= 0 {
			at.number, at.told = at.number+1, false
		}
	}
}

// linesBefore reads the lines in front of one that begins at an offset.
func linesBefore(fd int, offset int64, n int) []string {
	from := max(0, offset-contextLook)
	text := make([]byte, offset-from)
	got, err := sys.ReadFull(fd, text, from)
	if err != nil || got < len(text) || len(text) == 0 {
		return nil
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	if from > 0 && len(lines) > 1 {
		lines = lines[1:] // the first one is cut
	}
	return clipLines(lines[max(0, len(lines)-n):])
}

// linesAfter reads the lines behind one that ends at an offset.
func linesAfter(fd int, offset int64, n int) []string {
	text := make([]byte, contextLook)
	got, err := sys.ReadFull(fd, text, offset)
	if err != nil || got == 0 {
		return nil
	}
	lines := bytes.SplitN(bytes.TrimSuffix(text[:got], []byte("\n")), []byte("\n"), n+1)
	return clipLines(lines[:min(n, len(lines))])
}

func clipLines(lines [][]byte) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = pattern.Clip(pattern.Line(line), 0, maxText)
	}
	return out
}
