package stats

import (
	"syscall"

	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/sys"
)

// Tasks counts the processes and threads of commands, without those of the guest and its bridges, which have a reserve.
type Tasks struct {
	cgroup   *Cgroup
	commands proc.Match
}

// NewTasks counts what belongs to the commands' uid in a cgroup.
func NewTasks(cgroup *Cgroup, uid int) *Tasks {
	return &Tasks{cgroup: cgroup, commands: proc.Everything(uid)}
}

// Limit is how many commands may have. They meet that of their uid first; the engine's lies above it by the reserve.
func (t *Tasks) Limit() *int64 {
	_, limit, _ := t.cgroup.Pids()
	var own syscall.Rlimit
	if syscall.Getrlimit(sys.RlimitNproc, &own) == nil && own.Cur < 1<<31 && (limit == nil || int64(own.Cur) < *limit) {
		limit = new(int64)
		*limit = int64(own.Cur)
	}
	return limit
}

// Most tells, at little cost, how many commands have at most, and how often the engine's limit has refused one.
func (t *Tasks) Most() (most, refused *int64) {
	most, _, refused = t.cgroup.Pids()
	return most, refused
}

// Current is how many commands have. Zombies are among them, as for the kernel.
func (t *Tasks) Current() *int64 {
	current, _, _ := t.cgroup.Pids()
	if current == nil {
		return nil
	}
	all, err := proc.Scan()
	if err != nil {
		return nil
	}
	for _, e := range all {
		*current -= int64(e.Threads)
	}
	for _, e := range t.commands(all) {
		*current += int64(e.Threads)
	}
	*current = max(0, *current)
	return current
}
