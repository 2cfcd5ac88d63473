// Package proc starts processes, reaps them and finds and ends their trees.
package proc

import (
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// Reaper is the only place that waits for children. Children we started are told apart by pid; orphans that were
// handed to us only have to go.
type Reaper struct {
	mu        sync.Mutex // held while a child is started, so that its end cannot be reaped before its pid is known
	children  map[int]*Process
	childless atomic.Bool

	gone   sync.Mutex
	reaped chan struct{} // closed and replaced at each reap
}

// Process is a child that was started here.
type Process struct {
	Pid  int
	Gid  int // the supplementary group that marks its tree
	done chan struct{}
	end  syscall.WaitStatus
}

// Done is closed when the process has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status is valid after Done.
func (p *Process) Status() syscall.WaitStatus { return p.end }

// NewReaper starts the loop.
func NewReaper() *Reaper {
	r := &Reaper{children: map[int]*Process{}, reaped: make(chan struct{})}
	r.childless.Store(true)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			r.reap()
		}
	}()
	return r
}

// Childless tells that at the last reap no child was left, hence no process of any tree: every descendant hangs from a
// child of ours. It spares the scan of /proc after simple commands.
func (r *Reaper) Childless() bool { return r.childless.Load() }

// Reaped returns a channel that is closed when the next child is reaped.
func (r *Reaper) Reaped() <-chan struct{} {
	r.gone.Lock()
	defer r.gone.Unlock()
	return r.reaped
}

func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	any := false
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			r.childless.Store(err == syscall.ECHILD)
			break
		}
		if status.Stopped() || status.Continued() {
			continue
		}
		any = true
		if p, ok := r.children[pid]; ok {
			delete(r.children, pid)
			p.end = status
			defer close(p.done)
		}
	}
	if any {
		r.gone.Lock()
		close(r.reaped)
		r.reaped = make(chan struct{})
		r.gone.Unlock()
	}
}
