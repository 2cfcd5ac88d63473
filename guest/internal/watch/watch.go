// Package watch notices what the kernel does to commands: OOM kills, refused forks, a workspace that fills up, a processor
// that is held back.
package watch

import (
	"sync"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/stats"
)

// every is how often counters are read while execs run. Nothing is read while none runs.
const every = 2 * time.Second

// Watch attributes counters to execs.
type Watch struct {
	cgroup *stats.Cgroup
	tasks  *stats.Tasks
	disk   func() (used, limit int64, ok bool)
	log    *facts.Log

	mu      sync.Mutex
	running map[string]int // OOM kills so far
	writing int            // file tools at work
	timer   *time.Timer
	seen    int64 // the kernel's count of OOM kills
	held    int   // kills that are not told yet, since it may still turn out whose they were
	pending int   // kills told at the last tick without knowing whose
	forks   int64
	pids    bool // a pids fact stands; it may be told again once there is room
	full    int  // 0, 1 above 80 %, 2 full
	cpu     Throttle
}

// New starts from the counters as they are.
func New(cgroup *stats.Cgroup, tasks *stats.Tasks, workdir string, log *facts.Log) *Watch {
	disk := func() (used, limit int64, ok bool) { return stats.Disk(workdir) }
	w := &Watch{cgroup: cgroup, tasks: tasks, disk: disk, log: log, running: map[string]int{}}
	if n := cgroup.OomKills(); n != nil {
		w.seen = *n
	}
	if _, _, n := cgroup.Pids(); n != nil {
		w.forks = *n
	}
	return w
}

// Begin is told when an exec starts.
func (w *Watch) Begin(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running) == 0 {
		// Nothing is read while nothing runs: what was killed meanwhile, or filled the workspace, earlier commands had left behind,
		// and the time before counts for nothing.
		w.checkOom()
		w.giveUp()
		w.checkWorkspace()
		w.cpu.Begin(w.throttled())
		if w.timer == nil {
			w.timer = time.AfterFunc(every, w.tick)
		} else {
			w.timer.Reset(every)
		}
	}
	w.running[id] = 0
}

func (w *Watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A command that was killed has ended by now, unless others keep its output open for long.
	w.giveUp()
	w.check()
	w.checkCPU()
	if len(w.running) > 0 {
		w.timer.Reset(every)
	}
}

func (w *Watch) throttled() (time.Time, int64) {
	_, ms, _ := w.cgroup.CPU()
	if ms == nil {
		return time.Now(), 0
	}
	return time.Now(), *ms
}

func (w *Watch) checkCPU() {
	held, long := w.cpu.Look(w.throttled())
	if !long {
		return
	}
	_, _, cores := w.cgroup.CPU()
	w.limit("cpu", held.Milliseconds(), cores, w.only())
}

// limit tells of a limit; id is empty where nobody knows whose doing it was.
func (w *Watch) limit(kind string, observed, limit any, id string) {
	fields := facts.Fields{"limit": kind, "observed": observed, "max": limit}
	if id != "" {
		fields["exec_id"] = id
	}
	w.log.Record("limit", fields)
}

// only is the exec that runs, if it runs alone.
func (w *Watch) only() string {
	if len(w.running) == 1 {
		for id := range w.running {
			return id
		}
	}
	return ""
}

// Finish is told when an exec has ended and returns how many of its processes the kernel killed for memory. killed says that
// its main process, or one it waited for, got SIGKILL from somebody.
func (w *Watch) Finish(id string, killed bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.running[id]
	w.check()
	if killed && w.running[id] == before {
		w.claim(id)
	}
	kills := w.running[id]
	delete(w.running, id)
	if len(w.running) == 0 {
		w.giveUp()
		if w.timer != nil {
			w.timer.Stop()
		}
	}
	return kills
}

func (w *Watch) check() {
	w.checkOom()
	w.checkPids()
	w.checkWorkspace()
}

// checkOom tells what a command did that ran alone. Of several, the one that was killed says so when it ends.
func (w *Watch) checkOom() {
	n := w.cgroup.OomKills()
	if n == nil || *n <= w.seen {
		return
	}
	kills := int(*n - w.seen)
	w.seen = *n
	w.held += kills
	if id := w.only(); id != "" {
		w.tell(id, kills)
	}
}

// claim finds a kill for an exec that has ended as if the kernel had killed it.
func (w *Watch) claim(id string) {
	switch {
	case w.held > 0:
		w.tell(id, 1)
	case w.pending > 0 && w.running[id] == 0:
		w.pending--
		w.running[id]++
	}
}

// giveUp tells what nobody has claimed. One that runs and ends before the next tick may still count it as its own.
func (w *Watch) giveUp() {
	w.pending = 0
	if len(w.running) > 0 {
		w.pending = w.held
	}
	if w.held > 0 {
		w.tell("", w.held)
	}
}

// tell takes kills out of what is held; id is empty where nobody knows whose they were.
func (w *Watch) tell(id string, kills int) {
	w.held -= kills
	fields := facts.Fields{"oom_kills": w.seen - int64(w.held)}
	if id != "" {
		w.running[id] += kills
		fields["exec_id"] = id
	}
	w.log.Record("oom", fields)
}

func (w *Watch) checkPids() {
	current, refused := w.tasks.Most()
	limit := w.tasks.Limit()
	if current == nil || limit == nil {
		return
	}
	hit := refused != nil && *refused > w.forks
	if hit {
		w.forks = *refused
	}
	near := func() bool { return *current*10 >= *limit*8 }
	if hit || near() {
		if exact := w.tasks.Current(); exact != nil {
			current = exact
		}
	}
	// The kernel does not count what it refuses by the limit of a uid, and who was refused has often ended by now.
	hit = hit || *current >= *limit-*limit/16
	if hit && !w.pids {
		w.limit("pids", *current, *limit, w.only())
	}
	w.pids = hit || w.pids && near()
}
