package execs

import (
	"sync"
	"sync/atomic"
	"time"

	"chorus-sandbox/guest/internal/spool"
)

const (
	// followLag is how far a reader may be behind before the writer waits for it; less than the tail of a spool, so nothing is lost.
	followLag = 1 << 20
	// followPatience is how long the writer waits for a reader that does not move at all. Then it runs free until that reader has
	// caught up, and the spool decides what stays.
	followPatience = 250 * time.Millisecond
)

// Follower is a reader that wants all of a stream while it is written: the writer goes at its pace as long as it moves.
type Follower struct {
	out    *output
	at     atomic.Int64
	stuck  atomic.Bool
	moved  chan struct{} // holds one note
	closed chan struct{}
}

// Follow joins the reader of a spool of this exec, from an offset on. Whoever follows says how far it has come and, at last, Close.
func (e *Exec) Follow(s *spool.Spool, offset int64) *Follower {
	f := &Follower{moved: make(chan struct{}, 1), closed: make(chan struct{})}
	f.at.Store(offset)
	for _, o := range e.outputs {
		if o.spool == s {
			f.out = o
			o.followers.add(f)
		}
	}
	return f
}

// Reached notes that everything before the offset has been taken.
func (f *Follower) Reached(offset int64) {
	f.at.Store(offset)
	if f.out != nil && f.out.spool.Total()-offset <= followLag/2 {
		f.stuck.Store(false)
	}
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// Close lets the writer go.
func (f *Follower) Close() {
	if f.out != nil {
		f.out.followers.remove(f)
	}
	close(f.closed)
}

// wait returns once the reader is near enough, gone or stuck.
func (f *Follower) wait(total int64) {
	if total-f.at.Load() <= followLag || f.stuck.Load() {
		return
	}
	patience := time.NewTimer(followPatience)
	defer patience.Stop()
	for total-f.at.Load() > followLag {
		select {
		case <-f.moved:
			patience.Reset(followPatience)
		case <-f.closed:
			return
		case <-patience.C:
			f.stuck.Store(true)
			return
		}
	}
}

// followers of one stream.
type followers struct {
	mu  sync.Mutex
	all []*Follower // replaced, never changed
}

func (l *followers) add(f *Follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(append([]*Follower(nil), l.all...), f)
}

func (l *followers) remove(f *Follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := make([]*Follower, 0, len(l.all))
	for _, other := range l.all {
		if other != f {
			rest = append(rest, other)
		}
	}
	l.all = rest
}

func (l *followers) list() []*Follower {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// pace holds the writer back for those who follow.
func (o *output) pace() {
	for _, f := range o.followers.list() {
		f.wait(o.spool.Total())
	}
}
