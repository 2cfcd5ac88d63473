package execs

import (
	"cmp"
	"context"
	"os"
	"runtime"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/spool"
	"chorus-sandbox/guest/internal/sys"
)

// launch fills in the exec and starts its process and all that goes with it.
func (r *Registry) launch(ctx context.Context, e *Exec, req *Request, stdin []byte) error {
	env, secrets := r.Env.compose(req.Env, req.Tty != nil)
	e.cwd, e.tty, e.meta = resolveDir(r.Workdir, req.Cwd), req.Tty != nil, req.Meta
	e.command, e.toldCwd = req.summary(secrets), toldDir(e.cwd, r.Workdir, secrets)
	e.gid = r.Gids.Next()

	spec := proc.Spec{Argv: req.Argv, Env: flatten(env), Dir: e.cwd, Gid: e.gid, Tty: e.tty}
	if req.Command != nil {
		shell := cmp.Or(r.Shell, "/bin/sh") // what the image lacks may have been put there since
		spec.Path, spec.Argv = shell, []string{shell, "-c", *req.Command}
	} else {
		path, err := r.lookup(ctx, req.Argv[0], env["PATH"], e.cwd)
		if err != nil {
			return err
		}
		spec.Path = path
	}
	wiring, err := r.wire(req, len(stdin) > 0)
	if err != nil {
		return fault.New(fault.ExecNotStarted, "no descriptors for the exec: %v", err).With("errno", errnoName(err))
	}
	spec.Files = wiring.child
	r.Watch.Begin(e.ID)
	if err := r.begin(e, req, spec, wiring, stdin); err != nil {
		wiring.closeOurs()
		r.Watch.Finish(e.ID, false)
		return r.explain(ctx, err, spec.Path, e.cwd, req.Command != nil)
	}
	r.Activity()
	return nil
}

// begin starts the process; whoever waits at the gate finds it among the execs, or not started.
func (r *Registry) begin(e *Exec, req *Request, spec proc.Spec, wiring *wiring, stdin []byte) (err error) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	e.startedAt, e.startBoot = time.Now(), sys.Boot()
	e.main, err = r.Spawner.Start(spec)
	if err == syscall.ENOEXEC && req.Command == nil {
		// As execvp does: a script without an interpreter line is the shell's.
		spec.Argv = append([]string{"/bin/sh", spec.Path}, spec.Argv[1:]...)
		spec.Path = "/bin/sh"
		e.main, err = r.Spawner.Start(spec)
	}
	runtime.KeepAlive(wiring)
	wiring.closeChild()
	if err != nil {
		return err
	}
	e.match = proc.Tree(e.main.Pid, e.gid, r.Gids.Low)
	r.attach(e, wiring)
	e.stdin.begin(stdin, !req.KeepStdin && !e.tty)
	r.note(e)
	// Only now: its output, its time-out and its end are told behind its start.
	for _, o := range e.outputs {
		go o.pump(e.broadcast)
	}
	if req.TimeoutMs != nil {
		e.timeoutMs = *req.TimeoutMs
		left := time.Duration(e.timeoutMs)*time.Millisecond - (sys.Boot() - e.startBoot)
		e.deadline = time.AfterFunc(left, func() { r.expire(e) })
	}
	go r.await(e)
	return nil
}

func (r *Registry) attach(e *Exec, w *wiring) {
	e.stdin = newInput(w.stdin, e.tty)
	e.stdout, e.stderr = spool.New(r.Budget), spool.New(r.Budget)
	lost := func() { r.tellLoss(e) }
	e.stdout.OnLoss, e.stderr.OnLoss = lost, lost
	for i, file := range []*os.File{w.stdout, w.stderr} {
		if file == nil {
			continue
		}
		o := &output{file: file, spool: []*spool.Spool{e.stdout, e.stderr}[i], eof: make(chan struct{})}
		e.outputs = append(e.outputs, o)
	}
}

// tellLoss tells once that the output is no longer kept whole. When it returns, that is told.
func (r *Registry) tellLoss(e *Exec) {
	e.loss.Do(func() {
		r.Facts.Record("limit", facts.Fields{
			"limit": "output", "observed": e.stdout.Total() + e.stderr.Total(), "max": spool.HeadMax + spool.TailMax, "exec_id": e.ID,
		})
	})
}

// wiring is both sides of the descriptors of an exec.
type wiring struct {
	child                 [3]uintptr
	owned                 []int // the child's side, closed after the start
	stdin, stdout, stderr *os.File
}

// wire opens pipes, or a terminal, that belong to the commands' user: a program may reopen /dev/stdout.
func (r *Registry) wire(req *Request, hasStdin bool) (w *wiring, err error) {
	w = &wiring{child: [3]uintptr{r.DevNull, 0, 0}}
	defer func() {
		if err != nil {
			w.closeChild()
			w.closeOurs()
		}
	}()
	user := r.Spawner.User()
	if req.Tty != nil {
		master, slave, err := sys.OpenPty(user.Uid, user.Gid, req.Tty.Rows, req.Tty.Cols)
		if err != nil {
			return w, err
		}
		w.stdin, w.stdout, w.owned = master, master, []int{slave}
		w.child = [3]uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		return w, nil
	}
	if hasStdin || req.KeepStdin {
		if w.stdin, err = w.pipe(user, 0, 1); err != nil {
			return w, err
		}
	}
	if w.stdout, err = w.pipe(user, 1, 0); err != nil {
		return w, err
	}
	if req.MergeStderr {
		w.child[2] = w.child[1]
		return w, nil
	}
	w.stderr, err = w.pipe(user, 2, 0)
	return w, err
}

// pipe makes the child's descriptor n; ours tells which end stays here.
func (w *wiring) pipe(user proc.User, n, ours int) (*os.File, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	_ = syscall.Fchown(fds[0], user.Uid, user.Gid)
	_ = syscall.SetNonblock(fds[ours], true)
	w.child[n] = uintptr(fds[1-ours])
	w.owned = append(w.owned, fds[1-ours])
	return os.NewFile(uintptr(fds[ours]), "pipe"), nil
}

func (w *wiring) closeChild() {
	for _, fd := range w.owned {
		syscall.Close(fd)
	}
	w.owned = nil
}

func (w *wiring) closeOurs() { closeAll(w.stdin, w.stdout, w.stderr) }
