package files

import (
	"context"
	"errors"
	"time"

	"chorus-sandbox/guest/internal/fault"
)

// turn is how long a long job has a thread of the pool before others get theirs.
const turn = 10 * time.Millisecond

// steps runs a long job in turns until it is over.
func (f *Files) steps(ctx context.Context, path string, step func() (more bool, err error)) error {
	for more := true; more; {
		err := f.do(ctx, path, func() (err error) {
			for until := time.Now().Add(turn); more && err == nil && time.Now().Before(until); {
				if err = ctx.Err(); err == nil {
					more, err = step()
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// limited bounds the time of a job; tell turns the end of that time into a fault.
func limited(parent context.Context, d time.Duration) (ctx context.Context, cancel func(), tell func(error) error) {
	ctx, cancel = context.WithTimeout(parent, d)
	return ctx, cancel, func(err error) error {
		if errors.Is(err, context.DeadlineExceeded) && parent.Err() == nil {
			return fault.New(fault.LimitExceeded, "not done after %v; use a command for work of this size", d).With("kind", "time")
		}
		return err
	}
}

// gate bounds how many of the jobs that need much memory or many descriptors run at once.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }
