package proc

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// startMax is much more than a start takes. Programs inside can make one stand still: the child has their uid already
	// when it enters its directory and opens its program, so they can stop it, and what it opens is theirs.
	startMax = 5 * time.Second
	// haste is how long a start may take while somebody waits for there to be none: for a pause, or for the end of all.
	haste = time.Second
	again = 50 * time.Millisecond
)

// ErrStuck is the error of a start that took too long and was ended.
var ErrStuck = errors.New("the start took too long and was ended")

// turns lets one start happen at a time, and none of them take long.
type turns struct {
	turn sync.Mutex

	mu      sync.Mutex
	refused error
	limit   *time.Timer // nil when nothing is being started
	cut     bool        // it took too long

	pid int32 // the child that is being started; set by the kernel, before the child runs
}

// begin waits for the turn.
func (t *turns) begin() error {
	t.turn.Lock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refused != nil {
		t.turn.Unlock()
		return t.refused
	}
	atomic.StoreInt32(&t.pid, 0)
	t.cut = false
	var limit *time.Timer
	limit = time.AfterFunc(startMax, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.limit != limit {
			return
		}
		t.cut = true
		// Nobody reaps the child before the end.
		if pid := atomic.LoadInt32(&t.pid); pid != 0 {
			_ = syscall.Kill(int(pid), syscall.SIGKILL)
		}
		limit.Reset(again) // there may be no child yet, or the next one after this
	})
	t.limit = limit
	return nil
}

// end returns an error if the child was killed. No child is killed after that.
func (t *turns) end() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit.Stop()
	t.limit = nil
	switch {
	case !t.cut:
		return nil
	case t.refused != nil:
		return t.refused
	}
	return ErrStuck
}

// pass gives the turn to the next.
func (t *turns) pass() { t.turn.Unlock() }

func (t *turns) refuse(err error) {
	t.mu.Lock()
	t.refused = err
	if err != nil && t.limit != nil {
		t.limit.Reset(haste)
	}
	t.mu.Unlock()
	if err != nil {
		t.turn.Lock() // which those that wait for it give back at once
		t.turn.Unlock()
	}
}

func (t *turns) refusing() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}
