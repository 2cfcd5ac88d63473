package proc

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"

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
}

// NewSpawner makes a spawner for one user.
func NewSpawner(reaper *Reaper, user User) *Spawner {
	return &Spawner{reaper: reaper, user: user}
}

// User is who commands run as.
func (s *Spawner) User() User { return s.user }

// Start forks and executes. The error is the errno of the step that failed: credentials, chdir or exec.
func (s *Spawner) Start(spec Spec) (*Process, error) {
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: spec.Files[:],
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Tty},
	}
	if os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{
			Uid: uint32(s.user.Uid), Gid: uint32(s.user.Gid), Groups: []uint32{uint32(spec.Gid)},
		}
	}
	s.reaper.mu.Lock()
	defer s.reaper.mu.Unlock()
	s.reaper.childless.Store(false)
	pid, err := s.fork(spec, attr)
	if err != nil {
		return nil, err
	}
	p := &Process{Pid: pid, Gid: spec.Gid, done: make(chan struct{})}
	s.reaper.children[pid] = p
	return p, nil
}

// fork starts the child stopped before its first instruction, so that it is the OOM killer's first choice from the
// start; a child that cannot be traced becomes so right after its start.
func (s *Spawner) fork(spec Spec, attr *syscall.ProcAttr) (int, error) {
	if s.untraced.Load() {
		pid, err := syscall.ForkExec(spec.Path, spec.Argv, attr)
		if err == nil {
			s.expose(pid)
		}
		return pid, err
	}
	// The tracer is the thread that forks; only it may detach.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr.Sys.Ptrace = true
	pid, err := syscall.ForkExec(spec.Path, spec.Argv, attr)
	if err != nil {
		if err != syscall.EPERM && err != syscall.ENOSYS {
			return 0, err
		}
		attr.Sys.Ptrace = false
		if pid, err = syscall.ForkExec(spec.Path, spec.Argv, attr); err == nil {
			s.untraced.Store(true)
			s.expose(pid)
		}
		return pid, err
	}
	s.release(pid)
	return pid, nil
}

// release waits for the stop at exec and lets the child run. A child that was killed meanwhile stays for the reaper.
func (s *Spawner) release(pid int) {
	if !waitStop(pid) {
		return
	}
	s.expose(pid)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PTRACE, syscall.PTRACE_DETACH, uintptr(pid), 0, 0, 0, 0)
}

// commandNice leaves the guest time to act when hundreds of commands want all of it. Commands among themselves, and
// sandboxes among each other, share as before, as a niceness counts only inside a cgroup. A guest that is not PID 1 has
// no cgroup of its own, so there it would put commands behind the rest of the host.
const commandNice = 19

// expose makes the child the OOM killer's choice instead of the guest. The file belongs to the child's user, and the
// guest has no capability to pass over that. Where it fails the child only keeps the guest's own score.
func (s *Spawner) expose(pid int) {
	name := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	_ = sys.AsUser(s.user.Uid, s.user.Gid, func() {
		if os.Getpid() == 1 {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, commandNice)
		}
		fd, err := syscall.Open(name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		_, _ = syscall.Write(fd, []byte("1000"))
		syscall.Close(fd)
	})
}
