// Package execs runs commands and remembers how they went.
package execs

import (
	"encoding/json"
	"os"
	"sync"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/spool"
	"chorus-sandbox/guest/internal/sys"
)

// Status of an exec.
const (
	Running   = "running"
	Exited    = "exited"
	TimedOut  = "timed_out"
	Killed    = "killed"
	OomKilled = "oom_killed"
)

// What ended an exec.
const (
	BySelf    = "self"
	ByTimeout = "timeout"
	ByKill    = "kill"
	ByCancel  = "cancel"
	ByOom     = "oom"
	BySandbox = "sandbox"
)

// Exec is one command and its tree.
type Exec struct {
	ID string

	cwd     string
	tty     bool
	meta    json.RawMessage
	command string // as facts tell it
	toldCwd string // as facts tell it, too
	gid     int
	match   proc.Match
	main    *proc.Process
	stdin   *input
	outputs []*output
	stdout  *spool.Spool
	stderr  *spool.Spool
	loss    sync.Once // tells that a stream is no longer kept whole

	startedAt time.Time
	startBoot time.Duration
	deadline  *time.Timer
	timeoutMs int64

	ready chan struct{} // closed when the start has succeeded or failed
	err   error         // valid after ready
	done  chan struct{} // closed when the exec has ended

	mu          sync.Mutex
	changed     chan struct{}
	status      string
	exitCode    *int
	signal      *string
	endedBy     *string
	reason      string // who asked for the end, before it came
	oomKills    int
	leftRunning int
	endedAt     time.Time
	duration    time.Duration
}

// Info is the wire form of an exec.
type Info struct {
	ExecID       string     `json:"exec_id"`
	Status       string     `json:"status"`
	ExitCode     *int       `json:"exit_code"`
	Signal       *string    `json:"signal"`
	EndedBy      *string    `json:"ended_by"`
	OomKills     int        `json:"oom_kills"`
	LeftRunning  int        `json:"left_running"`
	Cwd          string     `json:"cwd"`
	Tty          bool       `json:"tty"`
	Pid          int        `json:"pid"`
	StartedAt    string     `json:"started_at"`
	EndedAt      *string    `json:"ended_at"`
	DurationMs   int64      `json:"duration_ms"`
	StdoutBytes  int64      `json:"stdout_bytes"`
	StderrBytes  int64      `json:"stderr_bytes"`
	OmittedBytes int64      `json:"omitted_bytes"`
	StdoutKept   [][2]int64 `json:"stdout_kept"`
	StderrKept   [][2]int64 `json:"stderr_kept"`
}

// Info describes the exec now.
func (e *Exec) Info() Info {
	e.mu.Lock()
	info := Info{
		ExecID: e.ID, Status: e.status, ExitCode: e.exitCode, Signal: e.signal, EndedBy: e.endedBy,
		OomKills: e.oomKills, LeftRunning: e.leftRunning, Cwd: e.cwd, Tty: e.tty, Pid: e.main.Pid,
		StartedAt: facts.Stamp(e.startedAt), DurationMs: e.duration.Milliseconds(),
	}
	if e.status == Running {
		info.DurationMs = (sys.Boot() - e.startBoot).Milliseconds()
	} else {
		at := facts.Stamp(e.endedAt)
		info.EndedAt = &at
	}
	e.mu.Unlock()
	var kept int64
	info.StdoutKept, info.StdoutBytes = pairs(e.stdout, &kept)
	info.StderrKept, info.StderrBytes = pairs(e.stderr, &kept)
	info.OmittedBytes = info.StdoutBytes + info.StderrBytes - kept
	return info
}

// Recount looks again whether processes that outlived the main one still run; what is gone never comes back.
func (e *Exec) Recount() {
	e.mu.Lock()
	stale := e.status != Running && e.leftRunning > 0
	e.mu.Unlock()
	if !stale {
		return
	}
	left := len(proc.Find(e.match))
	e.mu.Lock()
	e.leftRunning = left
	e.mu.Unlock()
}

func pairs(s *spool.Spool, kept *int64) ([][2]int64, int64) {
	ranges, total := s.Kept()
	list := make([][2]int64, 0, len(ranges))
	for _, r := range ranges {
		list = append(list, [2]int64{r.From, r.To})
		*kept += r.To - r.From
	}
	return list, total
}

// Done is closed when the exec has ended and its fact is recorded.
func (e *Exec) Done() <-chan struct{} { return e.done }

// Ended tells whether Done is closed.
func (e *Exec) Ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// Stdout and Stderr are the spools of the streams.
func (e *Exec) Stdout() *spool.Spool { return e.stdout }

// Stderr is the spool of stderr; it stays empty with a terminal or merged streams.
func (e *Exec) Stderr() *spool.Spool { return e.stderr }

// Changed returns a channel that is closed at the next output or at the end. Take it before looking.
func (e *Exec) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

func (e *Exec) broadcast() {
	e.mu.Lock()
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
	e.mu.Unlock()
}

// claim notes who ends the exec; the first one counts. It is false when the main process has ended already.
func (e *Exec) claim(reason string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.main.Done():
		return false
	default:
	}
	if e.reason == "" {
		e.reason = reason
	}
	return true
}

// asked tells whether somebody wanted the end.
func (e *Exec) asked() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reason != ""
}

// Resize changes the size of the terminal.
func (e *Exec) Resize(w Window) error {
	return e.stdin.resize(w)
}

// leaking tells whether children still hold the output open.
func (e *Exec) leaking() bool {
	for _, o := range e.outputs {
		select {
		case <-o.eof:
		default:
			return true
		}
	}
	return false
}

// free gives back all the exec holds; its id is forgotten.
func (e *Exec) free() {
	for _, o := range e.outputs {
		o.file.Close()
	}
	e.stdout.Close()
	e.stderr.Close()
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
