package execs

import (
	"context"
	"encoding/json"
	"sync"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/spool"
	"chorus-sandbox/guest/internal/sys"
)

const (
	maxRunning = 512
	// remembered is how many ended execs are kept; ones whose children still write are kept beyond it, up to maxEnded.
	remembered = 128
	maxEnded   = 256
)

// Watch hears of execs and tells what the kernel did to them.
type Watch interface {
	Begin(id string)
	// Finish ends the watch; killed says that a process of it seems to have got SIGKILL from somebody.
	Finish(id string, killed bool) (oomKills int)
}

// Config is what a registry needs from the rest of the guest.
type Config struct {
	Spawner  *proc.Spawner
	Reaper   *proc.Reaper
	Facts    *facts.Log
	Budget   *spool.Budget
	Env      *Env
	Gids     *Gids
	Watch    Watch
	AsUser   func(context.Context, func()) error // runs path look-ups with the rights of the commands
	Activity func()
	Workdir  string
	Shell    string
	DevNull  uintptr
}

// Registry knows all execs by id.
type Registry struct {
	Config

	gate sync.RWMutex // held for reading while a process is started, or signalled, and that is noted

	mu      sync.Mutex
	byID    map[string]*Exec
	order   []*Exec // by start
	running int
	total   int
}

// NewRegistry makes an empty registry.
func NewRegistry(c Config) *Registry {
	return &Registry{Config: c, byID: map[string]*Exec{}}
}

// Counts tells how many execs run now and how many were ever started.
func (r *Registry) Counts() (running, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running, r.total
}

// Get finds an exec that has started.
func (r *Registry) Get(id string) (*Exec, error) {
	r.mu.Lock()
	e := r.byID[id]
	r.mu.Unlock()
	if e != nil {
		if <-e.ready; e.err == nil {
			return e, nil
		}
	}
	return nil, fault.New(fault.ExecNotFound, "no exec %q here; the newest %d that ended are remembered", fault.Clip(id, 64), remembered)
}

// List describes all execs, newest first.
func (r *Registry) List() []Info {
	list := []Info{}
	for _, e := range r.snapshot() {
		list = append([]Info{e.Info()}, list...)
	}
	return list
}

func (r *Registry) snapshot() []*Exec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Exec(nil), r.order...)
}

// Refuse makes every later start fail with err; nil allows them again. When it returns no start is under way.
func (r *Registry) Refuse(err error) {
	r.Spawner.Refuse(err)
	r.gate.Lock() // when whoever is inside has left
	r.gate.Unlock()
}

// Start starts an exec once: the same id again returns the first one.
func (r *Registry) Start(ctx context.Context, id string, req *Request) (*Exec, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	stdin, err := req.Check()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if e := r.byID[id]; e != nil {
		r.mu.Unlock()
		<-e.ready
		return e, e.err
	}
	if err := r.Spawner.Refusing(); err != nil {
		r.mu.Unlock()
		return nil, err
	}
	if r.running >= maxRunning {
		r.mu.Unlock()
		return nil, fault.New(fault.LimitExceeded, "%d execs run already; wait for some or kill them", maxRunning).With("kind", "execs")
	}
	e := &Exec{ID: id, ready: make(chan struct{}), done: make(chan struct{}), status: Running}
	r.byID[id] = e
	r.running++
	r.mu.Unlock()

	if e.err = r.launch(ctx, e, req, stdin); e.err != nil {
		r.mu.Lock()
		delete(r.byID, id)
		r.running--
		r.mu.Unlock()
	}
	close(e.ready)
	return e, e.err
}

// note makes a process that has started an exec that others know.
func (r *Registry) note(e *Exec) {
	r.mu.Lock()
	r.total++
	r.order = append(r.order, e)
	r.mu.Unlock()
	r.Facts.Record("exec.started", facts.Fields{
		"exec_id": e.ID, "command": e.command, "cwd": e.toldCwd, "tty": e.tty, "meta": e.metaOrNull(),
		"started_at": facts.Stamp(e.startedAt),
	})
}

func (e *Exec) metaOrNull() json.RawMessage {
	if len(e.meta) == 0 || !json.Valid(e.meta) {
		return json.RawMessage("null")
	}
	return e.meta
}

// await runs beside each exec until its end is told.
func (r *Registry) await(e *Exec) {
	<-e.main.Done()
	if e.deadline != nil {
		e.deadline.Stop()
	}
	ended, duration := time.Now(), sys.Boot()-e.startBoot
	e.drain()
	<-e.ready
	status := e.main.Status()
	if e.asked() && status.Signaled() && status.Signal() == syscall.SIGKILL {
		// The whole tree is being killed: the end is told when it has gone.
		limit, cancel := context.WithTimeout(context.Background(), drainMax)
		r.Reaper.WaitGone(limit, e.match)
		cancel()
	}
	left := 0
	if !r.Reaper.Childless() {
		left = len(proc.Find(e.match))
	}
	// Whoever asked for its end explains a kill; else it may have been the kernel.
	suspicious := !e.asked() &&
		(status.Signaled() && status.Signal() == syscall.SIGKILL || status.Exited() && status.ExitStatus() == 137)
	oom := r.Watch.Finish(e.ID, suspicious)

	e.mu.Lock()
	e.endedAt, e.duration, e.leftRunning, e.oomKills = ended, duration, left, oom
	e.conclude(status)
	e.mu.Unlock()
	e.stdin.shut()
	e.stdout.Seal()
	e.stderr.Seal()

	r.mu.Lock()
	r.running--
	r.mu.Unlock()
	r.Activity()
	end := e.Info()
	if end.OmittedBytes > 0 {
		r.tellLoss(e) // the exec that took the memory may not have come to it yet
	}
	r.Facts.Record("exec.ended", e.endFields(end))
	close(e.done)
	e.broadcast()
	r.forget()
}

// forget drops the oldest ended execs beyond what is remembered.
func (r *Registry) forget() {
	r.mu.Lock()
	var dropped []*Exec
	ended := 0
	for _, e := range r.order {
		if e.Ended() {
			ended++
		}
	}
	kept := r.order[:0]
	for _, e := range r.order {
		if e.Ended() && (ended > maxEnded || ended > remembered && !e.leaking()) {
			ended--
			delete(r.byID, e.ID)
			dropped = append(dropped, e)
			continue
		}
		kept = append(kept, e)
	}
	clear(r.order[len(kept):])
	r.order = kept
	r.mu.Unlock()
	for _, e := range dropped {
		e.free()
	}
}
