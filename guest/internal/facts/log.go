// Package facts keeps the numbered, bounded log of what happened in the sandbox.
package facts

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

const (
	// Kept is how many facts are remembered for readers.
	Kept = 1024
	// PerAnswer bounds one page.
	PerAnswer = 256
	// bytesPerAnswer bounds it as well; one fact it always has.
	bytesPerAnswer = 512 << 10
)

// Stamp is the wire form of a wall clock time.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Fields are the members of a fact besides seq, at and kind.
type Fields map[string]any

// Page is an answer to a reader. Facts are marshalled once, when they are recorded.
type Page struct {
	Facts  []json.RawMessage `json:"facts"`
	Oldest uint64            `json:"oldest"`
	Next   uint64            `json:"next"`
}

// Log is a ring of facts that any number of readers follow by sequence.
type Log struct {
	mu      sync.Mutex
	ring    [Kept]json.RawMessage
	next    uint64
	changed chan struct{}
	sink    func(line []byte)
	closed  bool
}

// NewLog makes an empty log; sink gets each fact as JSON, in order, and must not block.
func NewLog(sink func(line []byte)) *Log {
	return &Log{next: 1, changed: make(chan struct{}), sink: sink}
}

// Record adds a fact and tells waiting readers.
func (l *Log) Record(kind string, fields Fields) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := l.next
	line := encode(seq, kind, fields)
	l.ring[seq%Kept] = line
	l.next++
	if l.sink != nil {
		l.sink(line)
	}
	if !l.closed {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	return seq
}

// encode writes seq, at and kind first, so a reader of the flight recorder sees them at the start of each line.
func encode(seq uint64, kind string, fields Fields) json.RawMessage {
	head, _ := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		At   string `json:"at"`
		Kind string `json:"kind"`
	}{seq, Stamp(time.Now()), kind})
	if len(fields) == 0 {
		return head
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return head
	}
	return append(append(head[:len(head)-1], ','), rest[1:]...)
}

// Range tells the lowest sequence still kept and the one the next fact will get.
func (l *Log) Range() (oldest, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest(), l.next
}

func (l *Log) oldest() uint64 {
	if l.next <= Kept {
		return 1
	}
	return l.next - Kept
}

// After returns what is there now with a sequence above after.
func (l *Log) After(after uint64) Page {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := Page{Facts: []json.RawMessage{}, Oldest: l.oldest(), Next: l.next}
	bytes := 0
	for seq := max(after+1, page.Oldest); seq < l.next && len(page.Facts) < PerAnswer; seq++ {
		fact := l.ring[seq%Kept]
		if bytes += len(fact); bytes > bytesPerAnswer && len(page.Facts) > 0 {
			break
		}
		page.Facts = append(page.Facts, fact)
	}
	return page
}

// Wait is After, but waits until there is a fact above after, the context ends or the log is closed.
func (l *Log) Wait(ctx context.Context, after uint64, wait time.Duration) Page {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		l.mu.Lock()
		changed, ready := l.changed, l.next > after+1 || l.closed
		l.mu.Unlock()
		if ready || wait <= 0 {
			return l.After(after)
		}
		select {
		case <-changed:
		case <-timer.C:
			return l.After(after)
		case <-ctx.Done():
			return l.After(after)
		}
	}
}

// Close lets every waiting reader go; nothing more is coming.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.changed)
	}
}
