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
	mu        sync.Mutex
	children  map[int]*Process
	expecting bool // a child is being started, and its pid is not known yet
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

// expect says that a child is about to be started. Until adopt only children whose pid is known are waited for: any other
// may be the new one, and a child that nobody has waited for keeps its pid.
func (r *Reaper) expect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expecting = true
	r.childless.Store(false)
}

// adopt tells the pid of the child that was expected, or 0 if there is none to be told apart.
func (r *Reaper) adopt(pid, gid int) *Process {
	p := &Process{Pid: pid, Gid: gid, done: make(chan struct{})}
	r.mu.Lock()
	r.expecting = false
	if pid != 0 {
		r.children[pid] = p
	}
	r.mu.Unlock()
	r.reap() // what ended meanwhile
	return p
}

func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	any := false
	var ours []*Process
	if r.expecting {
		for pid := range r.children {
			any = r.wait(pid, &ours) == pid || any
		}
	} else {
		for r.wait(-1, &ours) > 0 {
			any = true
		}
	}
	for _, p := range ours {
		close(p.done) // whoever waits for it sees whether any child is left
	}
	if any {
		r.gone.Lock()
		close(r.reaped)
		r.reaped = make(chan struct{})
		r.gone.Unlock()
	}
}

// wait takes one end, of a certain child or of any, and returns whose it was, or 0. One that we started joins ours.
func (r *Reaper) wait(which int, ours *[]*Process) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(which, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR || pid > 0 && (status.Stopped() || status.Continued()) {
			continue
		}
		if err != nil || pid <= 0 {
			if which == -1 {
				r.childless.Store(err == syscall.ECHILD)
			}
			return 0
		}
		if p, ok := r.children[pid]; ok {
			delete(r.children, pid)
			p.end = status
			*ours = append(*ours, p)
		}
		return pid
	}
}
