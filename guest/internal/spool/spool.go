// Package spool keeps the head and the tail of a stream in bounded memory for readers that come later.
package spool

import "sync"

const (
	// HeadMax is how much of the beginning is kept.
	HeadMax = 1 << 20
	// TailMax is how much of the end is kept; it shrinks by whole chunks.
	TailMax  = 3 << 20
	chunkMax = 64 << 10
)

// chunkSizes grow, so that a process that says ten bytes costs half a kilobyte.
var chunkSizes = [...]int{512, 3584, 28 << 10, chunkMax}

type chunk struct {
	from int64
	data []byte
}

func (c chunk) to() int64 { return c.from + int64(len(c.data)) }

// Range is a half-open range of stream offsets.
type Range struct{ From, To int64 }

// Spool is one stream. Writing never waits for a reader.
type Spool struct {
	budget *Budget
	// OnLoss hears, with no lock held, of the first byte that is no longer kept; what an ended process loses to others is not told.
	OnLoss func()

	mu       sync.Mutex
	chunks   []chunk // by offset; the head ones first, then, after at most one gap, the tail
	headSize int64   // bytes in chunks that belong to the head
	headOver bool    // nothing is added to the head any more
	total    int64
	cost     int64 // allocated bytes
	sealed   bool  // the process that wrote it has ended, so its output may be evicted
	freed    bool  // evicted: what still comes is counted only
	lost     bool  // not all of it is kept
	born     uint64
}

// New makes an empty spool whose memory is accounted in budget.
func New(budget *Budget) *Spool {
	s := &Spool{budget: budget}
	budget.add(s)
	return s
}

// Write appends p.
func (s *Spool) Write(p []byte) {
	if s.write(p) {
		s.tellLoss()
	}
}

// write reports whether making room for p dropped the first byte.
func (s *Spool) write(p []byte) (firstLoss bool) {
	for len(p) > 0 {
		s.mu.Lock()
		if s.freed {
			s.total += int64(len(p))
			s.mu.Unlock()
			return firstLoss
		}
		if n := s.fill(p); n > 0 {
			p = p[n:]
			s.mu.Unlock()
			continue
		}
		before := s.lost
		spare := s.makeRoom()
		firstLoss = firstLoss || s.lost && !before
		size := s.nextSize()
		s.mu.Unlock()
		if spare == nil {
			// Without our own lock: making room may take memory from any spool, this one included.
			s.budget.reserve(size)
			spare = make([]byte, 0, size)
		}
		s.mu.Lock()
		if !s.freed {
			s.chunks = append(s.chunks, chunk{from: s.total, data: spare[:0]})
			s.cost += int64(cap(spare))
		} else {
			s.budget.release(int64(cap(spare)))
		}
		s.mu.Unlock()
	}
	return firstLoss
}

func (s *Spool) tellLoss() {
	if s.OnLoss != nil {
		s.OnLoss()
	}
}

// fill puts what fits into the last chunk.
func (s *Spool) fill(p []byte) int {
	if len(s.chunks) == 0 {
		return 0
	}
	last := &s.chunks[len(s.chunks)-1]
	if last.to() != s.total {
		return 0
	}
	n := min(len(p), cap(last.data)-len(last.data))
	if s.inHead(*last) {
		n = min(n, int(HeadMax-s.headSize))
		s.headSize += int64(n)
	}
	last.data = append(last.data, p[:n]...)
	s.total += int64(n)
	return n
}

func (s *Spool) inHead(c chunk) bool { return !s.headOver && c.from < HeadMax }

func (s *Spool) nextSize() int {
	return chunkSizes[min(len(s.chunks), len(chunkSizes)-1)]
}

// makeRoom drops the oldest chunk of a full tail and hands its memory on.
func (s *Spool) makeRoom() []byte {
	first := s.firstTail()
	if first < 0 || s.total-s.chunks[first].from+chunkMax <= TailMax {
		return nil
	}
	spare := s.chunks[first].data
	s.drop(first)
	return spare
}

// firstTail is the index of the oldest chunk of the tail, or -1.
func (s *Spool) firstTail() int {
	for i, c := range s.chunks {
		if c.from >= s.headEnd() {
			return i
		}
	}
	return -1
}

func (s *Spool) headEnd() int64 {
	if s.headOver {
		return s.headSize
	}
	return HeadMax
}

func (s *Spool) drop(i int) int64 {
	freed := int64(cap(s.chunks[i].data))
	s.cost -= freed
	s.lost = s.lost || len(s.chunks[i].data) > 0
	s.chunks = append(s.chunks[:i], s.chunks[i+1:]...)
	return freed
}

// giveUp frees memory for other spools: all of it once the process has ended, otherwise the oldest chunk of the tail
// and, without a tail, the newest of the head. firstLoss says that a process which runs lost its first byte by it.
func (s *Spool) giveUp() (freed int64, firstLoss bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		freed = s.cost
		s.chunks, s.cost, s.freed, s.lost, s.headSize = nil, 0, true, true, 0
		return freed, false
	}
	if len(s.chunks) == 0 {
		return 0, false
	}
	before := s.lost
	i := s.firstTail()
	if i < 0 {
		i = len(s.chunks) - 1
		s.headSize = s.chunks[i].from
		s.headOver = true
	}
	freed = s.drop(i)
	return freed, s.lost && !before
}

// Seal allows eviction: the exec has ended.
func (s *Spool) Seal() {
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
}

// Close gives all memory back.
func (s *Spool) Close() {
	s.Seal()
	s.budget.remove(s)
}

// Total is the number of bytes produced so far.
func (s *Spool) Total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Kept tells the ranges that can still be read, at most two, and the bytes produced.
func (s *Spool) Kept() ([]Range, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ranges(), s.total
}

func (s *Spool) ranges() []Range {
	ranges := make([]Range, 0, 2)
	for _, c := range s.chunks {
		if len(c.data) == 0 {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1].To == c.from {
			ranges[n-1].To = c.to()
		} else {
			ranges = append(ranges, Range{c.from, c.to()})
		}
	}
	return ranges
}

// ReadAt copies what is kept from offset on, or from the first kept byte after it, and says where that was.
// n is 0 when nothing is kept beyond the offset; at is then the end of the stream.
func (s *Spool) ReadAt(p []byte, offset int64) (n int, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readAt(p, offset)
}

func (s *Spool) readAt(p []byte, offset int64) (n int, at int64) {
	at = max(offset, s.total)
	for _, c := range s.chunks {
		if c.to() <= offset || len(c.data) == 0 {
			continue
		}
		if n == 0 {
			at = max(offset, c.from)
		} else if c.from != at+int64(n) {
			break
		}
		n += copy(p[n:], c.data[at+int64(n)-c.from:])
		if n == len(p) {
			break
		}
	}
	return n, at
}
