package execs

import (
	"context"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/proc"
)

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "ILL": syscall.SIGILL, "TRAP": syscall.SIGTRAP,
	"ABRT": syscall.SIGABRT, "BUS": syscall.SIGBUS, "FPE": syscall.SIGFPE, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	"SEGV": syscall.SIGSEGV, "USR2": syscall.SIGUSR2, "PIPE": syscall.SIGPIPE, "ALRM": syscall.SIGALRM, "TERM": syscall.SIGTERM,
	"STKFLT": syscall.SIGSTKFLT, "CHLD": syscall.SIGCHLD, "CONT": syscall.SIGCONT, "STOP": syscall.SIGSTOP, "TSTP": syscall.SIGTSTP,
	"TTIN": syscall.SIGTTIN, "TTOU": syscall.SIGTTOU, "URG": syscall.SIGURG, "XCPU": syscall.SIGXCPU, "XFSZ": syscall.SIGXFSZ,
	"VTALRM": syscall.SIGVTALRM, "PROF": syscall.SIGPROF, "WINCH": syscall.SIGWINCH, "IO": syscall.SIGIO, "PWR": syscall.SIGPWR,
	"SYS": syscall.SIGSYS,
}

func signalName(sig syscall.Signal) string {
	for name, s := range signals {
		if s == sig {
			return name
		}
	}
	return sig.String()
}

// KillRequest asks for the end of a tree.
type KillRequest struct {
	Signal  string `json:"signal"`
	GraceMs *int64 `json:"grace_ms"`
	By      string `json:"by"`
}

const maxGrace = 60 * time.Second

func (k *KillRequest) parse() (sig syscall.Signal, grace time.Duration, by string, err error) {
	sig, grace, by = syscall.SIGTERM, 2*time.Second, ByKill
	if k.Signal != "" {
		name := k.Signal
		if len(name) > 3 && name[:3] == "SIG" {
			name = name[3:]
		}
		var ok bool
		if sig, ok = signals[name]; !ok {
			return 0, 0, "", fault.New(fault.InvalidArgument, "signal %q is unknown; use TERM, INT, HUP, KILL, ...", fault.Clip(k.Signal, 16))
		}
	}
	if k.GraceMs != nil {
		grace = time.Duration(*k.GraceMs) * time.Millisecond
		if *k.GraceMs < 0 || *k.GraceMs > maxGrace.Milliseconds() {
			return 0, 0, "", fault.New(fault.InvalidArgument, "grace_ms is 0 to %d", maxGrace.Milliseconds())
		}
	}
	switch k.By {
	case "", ByKill:
	case ByCancel:
		by = ByCancel
	default:
		return 0, 0, "", fault.New(fault.InvalidArgument, "by is kill or cancel")
	}
	return sig, grace, by, nil
}

// Kill signals the whole tree. A signal that asks for an end gets it: after the grace what is left is killed, and Kill
// returns when it is gone. An aborted wait does not stop the work.
func (r *Registry) Kill(ctx context.Context, e *Exec, k *KillRequest) error {
	sig, grace, by, err := k.parse()
	if err != nil {
		return err
	}
	if sig != syscall.SIGKILL && !polite(sig) {
		return r.notify(e, sig)
	}
	e.claim(by)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.bringDown(e, sig, grace)
	}()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notify sends a signal that asks for no end. In a paused sandbox everything stays stopped.
func (r *Registry) notify(e *Exec, sig syscall.Signal) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if err := r.Spawner.Refusing(); err != nil && sig == syscall.SIGCONT {
		return err
	}
	proc.Signal(e.match, sig)
	return nil
}

func (r *Registry) bringDown(e *Exec, sig syscall.Signal, grace time.Duration) {
	if sig != syscall.SIGKILL && grace > 0 {
		if proc.Signal(e.match, sig) > 0 {
			if r.Spawner.Refusing() == nil {
				// A stopped process acts on the signal only when it runs again.
				proc.Signal(e.match, syscall.SIGCONT)
			}
			wait, cancel := context.WithTimeout(context.Background(), grace)
			r.Reaper.WaitGone(wait, e.match)
			cancel()
		}
	}
	r.destroy(e)
}

func polite(sig syscall.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGHUP || sig == syscall.SIGQUIT
}

// destroy kills the tree and waits until its end is told as well.
func (r *Registry) destroy(e *Exec) {
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r.Reaper.Kill(limit, e.match)
	select {
	case <-e.done:
	case <-limit.Done():
	}
}

func (r *Registry) expire(e *Exec) {
	if !e.claim(ByTimeout) {
		return
	}
	r.Facts.Record("limit", facts.Fields{
		"limit": "time", "observed": e.Info().DurationMs, "max": e.timeoutMs, "exec_id": e.ID,
	})
	r.destroy(e)
}

// EndAll kills everything commands have started and waits until each exec's end is recorded.
func (r *Registry) EndAll(ctx context.Context) {
	running := r.snapshot()
	for _, e := range running {
		e.claim(BySandbox)
	}
	r.Reaper.Kill(ctx, proc.Everything(r.Spawner.User().Uid))
	for _, e := range running {
		select {
		case <-e.done:
		case <-ctx.Done():
			return
		}
	}
}

// conclude says how the exec ended from what the kernel says and who asked for it.
func (e *Exec) conclude(status syscall.WaitStatus) {
	by := e.reason
	if status.Exited() {
		code := status.ExitStatus()
		e.status, e.exitCode = Exited, &code
		if by == "" || by == ByTimeout {
			by = BySelf
		}
		e.endedBy = &by
		return
	}
	name := signalName(status.Signal())
	e.signal, e.status = &name, Killed
	switch {
	case by == ByTimeout:
		e.status = TimedOut
	case by == "" && status.Signal() == syscall.SIGKILL && e.oomKills > 0:
		e.status, by = OomKilled, ByOom
	case by == "":
		by = BySelf
	}
	e.endedBy = &by
}

func (e *Exec) endFields(i Info) facts.Fields {
	return facts.Fields{
		"exec_id": i.ExecID, "status": i.Status, "exit_code": i.ExitCode, "signal": i.Signal, "ended_by": i.EndedBy,
		"oom_kills": i.OomKills, "duration_ms": i.DurationMs, "stdout_bytes": i.StdoutBytes, "stderr_bytes": i.StderrBytes,
		"omitted_bytes": i.OmittedBytes, "meta": e.metaOrNull(),
	}
}
