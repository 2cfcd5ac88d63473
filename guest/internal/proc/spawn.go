package proc

import (
	"os"
	"sync/atomic"

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
	turns  turns
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
	if os.Getpid() == 1 {
		child.Nice = commandNice
	}
	if err := s.turns.begin(); err != nil {
		return nil, err
	}
	defer s.turns.pass()
	s.reaper.expect()
	pid, err := s.fork(child)
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

// fork returns when the child has executed, or is dead. It stays for the reaper. With an error there is no pid.
func (s *Spawner) fork(child *sys.Child) (int, error) {
	err := sys.Start(child, &s.turns.pid)
	if cut := s.turns.end(); cut != nil {
		return 0, cut
	}
	if err != nil {
		return 0, err
	}
	return int(atomic.LoadInt32(&s.turns.pid)), nil
}

// commandNice leaves the guest time to act when hundreds of commands want all of it. Commands among themselves, and
// sandboxes among each other, share as before, as a niceness counts only inside a cgroup. A guest that is not PID 1 has
// no cgroup of its own, so there it would put commands behind the rest of the host.
const commandNice = 19
