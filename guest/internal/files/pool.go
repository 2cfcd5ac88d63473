// Package files does file work with exactly the rights of a command.
package files

import (
	"context"
	"fmt"
	"runtime"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// Pool runs jobs on a few threads whose effective uid and gid are the commands', so the kernel itself decides what is
// allowed and no race with symbolic links gains anything. The threads never return to other work.
type Pool struct {
	jobs chan func()
}

// NewPool starts the threads. uid and gid equal to the guest's own leave them as they are.
func NewPool(threads, uid, gid int) (*Pool, error) {
	p := &Pool{jobs: make(chan func())}
	started := make(chan error)
	for range threads {
		go func() {
			runtime.LockOSThread()
			err := become(uid, gid)
			started <- err
			if err != nil {
				return
			}
			for job := range p.jobs {
				job()
			}
		}()
	}
	var failed error
	for range threads {
		if err := <-started; err != nil {
			failed = err
		}
	}
	return p, failed
}

func become(uid, gid int) error {
	if uid == 0 || uid == sys.Euid() {
		return nil
	}
	if err := sys.DropGroups(); err != nil {
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := sys.SetEffective(uid, gid); err != nil {
		return fmt.Errorf("become uid %d: %w", uid, err)
	}
	return nil
}

// Do runs f on one of the threads and waits for it. A context that ends before f began means it never runs; f itself
// has to look at the context if it can take long.
func (p *Pool) Do(ctx context.Context, f func()) error {
	done := make(chan any, 1)
	job := func() {
		defer func() { done <- recover() }()
		f()
	}
	select {
	case p.jobs <- job:
	case <-ctx.Done():
		return ctx.Err()
	}
	if panicked := <-done; panicked != nil {
		return fault.New(fault.Internal, "file work failed: %v", panicked)
	}
	return nil
}
