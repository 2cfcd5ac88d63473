package sandbox

import (
	"syscall"

	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/sys"
)

// rounds are more than it takes unless something forks without end: what that leaves behind meets the engine's limit.
const rounds = 50

// LimitProcesses makes all commands, those that run included, keep a limit that has changed. The engine's lies above it, so
// that the guest and its bridges have threads of their own.
func (s *Sandbox) LimitProcesses(pids uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(sys.RlimitNproc, &limit); err != nil {
		return err
	}
	limit.Cur = min(pids, limit.Max)
	if err := sys.SetProcesses(0, limit); err != nil {
		return err
	}
	if s.user.Uid == sys.Euid() {
		return nil // root's processes are not counted
	}
	return sys.WithRealIds(s.user.Uid, s.user.Gid, func() {
		seen := map[int]bool{}
		for range rounds {
			fresh := false
			for _, e := range proc.Find(proc.Everything(s.user.Uid)) {
				if !seen[e.Pid] {
					seen[e.Pid], fresh = true, true
					_ = sys.SetProcesses(e.Pid, limit)
				}
			}
			if !fresh {
				return
			}
		}
	})
}
