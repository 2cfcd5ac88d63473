package sandbox

import (
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/proc"
)

// ErrPaused answers what cannot happen in a paused sandbox.
var ErrPaused = fault.New(fault.Paused, "the sandbox is paused; resume it first")

// Paused tells whether commands stand still.
func (s *Sandbox) Paused() bool { return s.paused.Load() }

// Pause stops all that commands have started. The guest goes on, and with it the lease.
func (s *Sandbox) Pause(t *facts.Tell) {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if s.paused.Load() {
		return
	}
	s.Execs.Refuse(ErrPaused)
	s.paused.Store(true)
	s.frozen, _ = proc.Freeze(proc.Everything(s.user.Uid), 5*time.Second)
	s.Facts.Record("paused", t.Fields())
}

// Resume continues what Pause stopped, and only that: a process that had stopped itself stays stopped.
func (s *Sandbox) Resume(t *facts.Tell) {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if !s.paused.Load() {
		return
	}
	ours := map[int]bool{}
	for _, pid := range s.frozen {
		ours[pid] = true
	}
	for _, e := range proc.Find(proc.Everything(s.user.Uid)) {
		// Whether it is seen stopped or not: a stop that waits, for a processor or for a vforked child, would stop it later.
		if ours[e.Pid] {
			_ = syscall.Kill(e.Pid, syscall.SIGCONT)
		}
	}
	s.frozen = nil
	s.paused.Store(false)
	s.Execs.Refuse(nil)
	s.Facts.Record("resumed", t.Fields())
}
