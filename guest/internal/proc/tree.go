package proc

import (
	"context"
	"os"
	"syscall"
	"time"
)

// Match chooses processes from a scan. It gets all of them, as some choices depend on the others.
type Match func(all []Entry) []Entry

// Tree matches the processes of one exec: all that have its group and, as root can drop groups and some kernels do not
// list them, all of its session that have no exec's group at all.
func Tree(pid, gid, gidLow int) Match {
	return func(all []Entry) []Entry {
		var tree []Entry
		for _, e := range all {
			if e.InGroup(gid) || (e.Session == pid || e.Pgid == pid) && !e.marked(gidLow) {
				tree = append(tree, e)
			}
		}
		return tree
	}
}

// marked tells whether the process carries the group of some exec.
func (e Entry) marked(gidLow int) bool {
	for rest := []byte(e.groups); len(rest) > 0; {
		if rest[0] == ' ' {
			rest = rest[1:]
			continue
		}
		if number(rest) >= gidLow {
			return true
		}
		for len(rest) > 0 && rest[0] != ' ' {
			rest = rest[1:]
		}
	}
	return false
}

// Everything matches all that commands started: the descendants of the guest and whatever has the commands' uid.
// What the engine brought in, like `guest connect`, is neither.
func Everything(uid int) Match {
	self := os.Getpid()
	return func(all []Entry) []Entry {
		parents := make(map[int]int, len(all))
		for _, e := range all {
			parents[e.Pid] = e.Ppid
		}
		descends := func(pid int) bool {
			for hops := 0; pid > 0 && hops < len(all); hops++ {
				if pid = parents[pid]; pid == self {
					return true
				}
			}
			return false
		}
		var found []Entry
		for _, e := range all {
			if e.Pid != self && (uid != 0 && e.Uid == uid || descends(e.Pid)) {
				found = append(found, e)
			}
		}
		return found
	}
}

// Find returns the live processes that match.
func Find(match Match) []Entry {
	all, err := Scan()
	if err != nil {
		return nil
	}
	return match(all)
}

// Signal sends a signal once to each process that matches and returns how many there were.
func Signal(match Match, sig syscall.Signal) int {
	found := Find(match)
	for _, e := range found {
		_ = syscall.Kill(e.Pid, sig)
	}
	return len(found)
}

// Freeze stops what matches until a scan finds nothing that runs, so that nothing can fork away any more. It returns the
// pids it stopped (processes that were stopped already are not among them) and all that matched in the end.
func Freeze(match Match, limit time.Duration) (stopped []int, found []Entry) {
	sent := map[int]bool{}
	for deadline := time.Now().Add(limit); ; {
		fresh := 0
		found = Find(match)
		for _, e := range found {
			if e.Stopped || sent[e.Pid] {
				continue
			}
			if syscall.Kill(e.Pid, syscall.SIGSTOP) == nil {
				fresh++
				sent[e.Pid] = true
				stopped = append(stopped, e.Pid)
			}
		}
		if fresh == 0 || time.Now().After(deadline) {
			return stopped, found
		}
	}
}

// Kill ends all that matches and returns when nothing of it is left, or when the context ends.
// It stops first: killing one by one loses against a fork bomb.
func (r *Reaper) Kill(ctx context.Context, match Match) bool {
	for {
		reaped := r.Reaped()
		_, found := Freeze(match, 2*time.Second)
		if len(found) == 0 {
			return true
		}
		for _, e := range found {
			_ = syscall.Kill(e.Pid, syscall.SIGKILL)
		}
		select {
		case <-reaped:
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
		if r.Childless() {
			return true
		}
	}
}

// WaitGone waits until nothing matches or the context ends.
func (r *Reaper) WaitGone(ctx context.Context, match Match) bool {
	for {
		reaped := r.Reaped()
		if r.Childless() || len(Find(match)) == 0 {
			return true
		}
		select {
		case <-reaped:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}
