package proc

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/sys"
)

// Spec says what to start. Files are the child's descriptors 0, 1 and 2.
type Spec struct {
	Path  string
	Argv  []string
	Env   []string
	Dir   string
	Files [3]uintptr
	Tty   bool
	Gid   int // supplementary group of its own, inherited by all descendants
}

// User is who commands run as.
type User struct{ Uid, Gid int }

// Spawner starts processes as the user of the commands.
type Spawner struct {
	reaper *Reaper
	user   User
	// untraced is set where the kernel or the engine refuses ptrace.
	untraced atomic.Bool
	turns    turns
}

// NewSpawner makes a spawner for one user.
func NewSpawner(reaper *Reaper, user User) *Spawner {
	return &Spawner{reaper: reaper, user: user}
}

// User is who commands run as.
func (s *Spawner) User() User { return s.user }

// Start forks and executes. The error is the errno of the step that failed, credentials, chdir or exec, ErrStuck if it had
// to be ended, or that of Refuse.
func (s *Spawner) Start(spec Spec) (*Process, error) {
	child := &sys.Child{
		Path: spec.Path, Dir: spec.Dir, Argv: spec.Argv, Env: spec.Env, Files: spec.Files, Tty: spec.Tty,
	}
	if os.Geteuid() == 0 {
		child.Identity = &sys.Identity{Uid: s.user.Uid, Gid: s.user.Gid, Group: spec.Gid}
	}
	if err := s.turns.begin(); err != nil {
		return nil, err
	}
	defer s.turns.pass()
	s.reaper.expect()
	pid, err := s.fork(child)
	if err != nil {
		pid = 0
	}
	p := s.reaper.adopt(pid, spec.Gid)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Refuse makes every later start fail with err; nil allows them again. When it returns no start is under way: one that
// takes long is ended.
func (s *Spawner) Refuse(err error) { s.turns.refuse(err) }

// Refusing is the error that starts fail with, if they do.
func (s *Spawner) Refusing() error { return s.turns.refusing() }

// fork starts the child stopped before its first instruction, so that it is the OOM killer's first choice from the
// start; a child that cannot be traced becomes so right after its start.
func (s *Spawner) fork(child *sys.Child) (int, error) {
	child.Traced = !s.untraced.Load()
	// The tracer is the thread that forks; only it may detach.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := s.execute(child)
	if child.Traced && (err == syscall.EPERM || err == syscall.ENOSYS) {
		child.Traced = false
		if pid, err = s.execute(child); err == nil {
			s.untraced.Store(true)
		}
	}
	if cut := s.turns.end(); cut != nil {
		return 0, cut
	}
	if err != nil {
		return 0, err
	}
	s.expose(pid, child.Traced)
	if child.Traced {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PTRACE, syscall.PTRACE_DETACH, uintptr(pid), 0, 0, 0, 0)
	}
	return pid, nil
}

// execute returns when the child has executed, and has stopped if it is traced, or is dead. It stays for the reaper.
func (s *Spawner) execute(child *sys.Child) (int, error) {
	if err := sys.Start(child, &s.turns.pid); err != nil {
		return 0, err
	}
	pid := int(atomic.LoadInt32(&s.turns.pid))
	if child.Traced {
		waitStop(pid)
	}
	return pid, nil
}

// commandNice leaves the guest time to act when hundreds of commands want all of it. Commands among themselves, and
// sandboxes among each other, share as before, as a niceness counts only inside a cgroup. A guest that is not PID 1 has
// no cgroup of its own, so there it would put commands behind the rest of the host.
const commandNice = 19

// expose makes the child the OOM killer's choice instead of the guest. The file belongs to the child's user, and the
// guest has no capability to pass over that. Where it fails the child only keeps the guest's own score. A child that has not
// stopped after its execution may still be about to become its user's.
func (s *Spawner) expose(pid int, stopped bool) {
	name := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	_ = sys.AsUser(s.user.Uid, s.user.Gid, func() {
		if os.Getpid() == 1 {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, commandNice)
		}
		fd, err := syscall.Open(name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		for try := 0; err == syscall.EACCES && !stopped && try < 20; try++ {
			time.Sleep(time.Millisecond)
			fd, err = syscall.Open(name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		}
		if err != nil {
			return
		}
		_, _ = syscall.Write(fd, []byte("1000"))
		syscall.Close(fd)
	})
}
