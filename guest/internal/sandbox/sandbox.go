// Package sandbox puts the parts of the guest together and ends it.
package sandbox

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/execs"
	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/files"
	"chorus-sandbox/guest/internal/lease"
	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/programs"
	"chorus-sandbox/guest/internal/spool"
	"chorus-sandbox/guest/internal/stats"
	"chorus-sandbox/guest/internal/sys"
	"chorus-sandbox/guest/internal/watch"
)

// API is the version of the protocol.
const API = 1

// Exit codes that say why the sandbox ended.
const (
	ExitShutdown = 0
	ExitTTL      = 80
	ExitIdle     = 81
	ExitBoot     = 82
	ExitSetup    = 84
)

// spareThreads is more than bursts of requests were seen to use.
const spareThreads = 12

// Options come from the command line.
type Options struct {
	ID        string
	Uid       int
	Workdir   string
	Tmp       string
	Run       string
	BootLease time.Duration
	Dev       bool // commands run as root
	Version   string
}

// Sandbox is the running guest.
type Sandbox struct {
	Options
	Shell    string
	Facts    *facts.Log
	Env      *execs.Env
	Execs    *execs.Registry
	Files    *files.Files
	Watch    *watch.Watch
	Lease    *lease.Lease
	Stats    *stats.Source
	Programs *programs.Finder

	startedAt time.Time
	startBoot time.Duration
	reaper    *proc.Reaper
	user      proc.User

	pausing sync.Mutex
	paused  atomic.Bool
	frozen  []int // what pause stopped, for resume to continue

	settler settler
	opened  atomic.Bool // all of it is there
	ending  sync.Once
	exit    chan int
}

// Open prepares the directories and starts everything but the listener. It is the process's only sandbox.
func Open(o Options) (*Sandbox, error) {
	s := &Sandbox{Options: o, startedAt: time.Now(), startBoot: sys.Boot(), exit: make(chan int, 1)}
	s.user = proc.User{Uid: o.Uid, Gid: o.Uid}
	if o.Dev {
		s.user = proc.User{}
	}
	s.Facts = facts.NewLog(facts.NewRecorder(1).Write)
	s.Facts.Record("boot", facts.Fields{"version": o.Version, "api": API, "sandbox_id": o.ID})
	// Before anything of the image is looked at: it may be made so that this never ends.
	s.Lease = lease.New(s.Facts, o.BootLease, s.busy, s.leaseOver)
	if err := prepare(o, s.user); err != nil {
		return nil, err
	}
	warm(spareThreads)
	pool, err := files.NewPool(4, s.user.Uid, s.user.Gid)
	if err != nil {
		return nil, fmt.Errorf("file threads: %w", err)
	}
	// Changing ids makes the kernel reconsider who may read this process.
	if err := sys.Undumpable(); err != nil {
		return nil, fmt.Errorf("undumpable: %w", err)
	}
	devNull, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	s.reaper = proc.NewReaper()
	s.Shell = shell()
	s.Env = execs.NewEnv(o.Workdir, userName(s.user.Uid), os.Getenv("PATH"))
	s.Files = files.New(pool, o.Workdir)
	cgroup := stats.OpenCgroup("/sys/fs/cgroup")
	tasks := stats.NewTasks(cgroup, s.user.Uid)
	s.Stats = stats.NewSource(cgroup, tasks, o.Workdir)
	s.Watch = watch.New(cgroup, tasks, o.Workdir, s.Facts)
	budget := spool.NewBudget(spool.BudgetMax)
	budget.OnEvict = s.settler.stir
	gids := execs.NewGids()
	spawner := proc.NewSpawner(s.reaper, s.user)
	s.Execs = execs.NewRegistry(execs.Config{
		Spawner: spawner, Reaper: s.reaper, Facts: s.Facts, Budget: budget, Env: s.Env, Gids: gids,
		Watch: s.Watch, AsUser: pool.Do, Activity: s.Touch,
		Workdir: o.Workdir, Shell: s.Shell, DevNull: uintptr(devNull),
	})
	s.Programs = &programs.Finder{
		Spawner: spawner, Reaper: s.reaper, Env: s.Env.Strings, Gid: gids.Next, GidLow: gids.Low,
		Workdir: o.Workdir, DevNull: uintptr(devNull), AsUser: pool.Do,
	}
	s.opened.Store(true)
	s.settler.stir() // starting is a burst as well
	return s, nil
}

func (s *Sandbox) busy() bool {
	if !s.opened.Load() {
		return false
	}
	running, _ := s.Execs.Counts()
	return running > 0
}

// Touch notes activity for the idle lease.
func (s *Sandbox) Touch() {
	s.settler.stir()
	s.Lease.Touch()
}

// Uptime is counted on the boot clock.
func (s *Sandbox) Uptime() time.Duration { return sys.Boot() - s.startBoot }

// StartedAt is when the guest started.
func (s *Sandbox) StartedAt() time.Time { return s.startedAt }

// User is who commands run as.
func (s *Sandbox) User() proc.User { return s.user }

// shell is the one for commands; empty where the image has none.
func shell() string {
	for _, path := range []string{"/bin/bash", "/bin/sh"} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

var errEnding = fault.New(fault.ExecNotStarted, "the sandbox is ending").With("errno", "ESHUTDOWN")

func (s *Sandbox) leaseOver(kind string) {
	code := map[string]int{lease.TTL: ExitTTL, lease.Idle: ExitIdle, lease.Boot: ExitBoot}[kind]
	s.end(code, "lease.over", facts.Fields{"lease": kind})
}

// Shutdown ends everything because somebody asked for it.
func (s *Sandbox) Shutdown(reason string) {
	s.end(ExitShutdown, "shutdown", facts.Fields{"reason": fault.Clip(reason, 256)})
}

// end happens once. Everybody who waits for facts gets the last ones before the process goes.
func (s *Sandbox) end(code int, why string, fields facts.Fields) {
	s.ending.Do(func() {
		go func() {
			if !s.opened.Load() {
				s.Facts.Record(why, fields)
				os.Exit(code) // nothing was started, and nobody waits for Exit yet
			}
			s.refuseStarts()
			used := s.Stats.Sample(s.Uptime())
			fields["cpu_ms"], fields["peak_memory_bytes"] = used.CPU.UsageMs, used.Memory.PeakBytes
			s.Facts.Record(why, fields)
			limit, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			s.Execs.EndAll(limit)
			s.Facts.Close()
			s.exit <- code
		}()
	})
}

// refuseStarts waits for those under way, but not for ever: one that not even KILL ends goes with this process.
func (s *Sandbox) refuseStarts() {
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		s.Execs.Refuse(errEnding)
	}()
	select {
	case <-refused:
	case <-time.After(3 * time.Second):
	}
}

// Exit delivers the code to exit with.
func (s *Sandbox) Exit() <-chan int { return s.exit }
