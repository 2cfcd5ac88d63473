package execs

import (
	"context"
	"errors"
	"io"
	"time"

	"chorus-sandbox/guest/internal/spool"
)

// Piece is a part of the output as a view's header tells it.
type Piece struct {
	Stream string `json:"stream"`
	From   int64  `json:"from"`
	Len    int    `json:"len"`
	Data   []byte `json:"-"`
}

// Look waits as the view asks and returns the exec and its output from the offsets on.
func (e *Exec) Look(ctx context.Context, v *View) (Info, []Piece) {
	e.wait(ctx, v)
	e.Recount()
	for {
		ended := e.Ended()
		pieces := e.pieces(v)
		info := e.Info()
		// An exec that ended in between has output the pieces lack: look again, so that "ended" always means "all of it".
		if ended == (info.Status != Running) || ended {
			return info, pieces
		}
		<-e.done
	}
}

func (e *Exec) wait(ctx context.Context, v *View) {
	if v.WaitMs <= 0 || e.Ended() {
		return
	}
	timer := time.NewTimer(v.wait())
	defer timer.Stop()
	for {
		var changed <-chan struct{}
		if v.Until == "output" {
			changed = e.Changed()
			if e.stdout.Total() > v.StdoutOffset || e.stderr.Total() > v.StderrOffset {
				return
			}
		}
		select {
		case <-e.done:
			return
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// pieces shares max_bytes out: each stream half of it, and what one does not need goes to the other.
func (e *Exec) pieces(v *View) []Piece {
	limit := v.maxBytes()
	out, err := e.stdout.Available(v.StdoutOffset), e.stderr.Available(v.StderrOffset)
	forErr := min(err, limit/2)
	forOut := min(out, limit-forErr)
	forErr = min(err, limit-forOut)
	live := !e.Ended()
	list := []Piece{}
	add := func(stream string, segments []spool.Segment) {
		for _, s := range segments {
			if len(s.Data) > 0 {
				list = append(list, Piece{stream, s.From, len(s.Data), s.Data})
			}
		}
	}
	add("stdout", e.stdout.Cut(v.StdoutOffset, forOut, live))
	add("stderr", e.stderr.Cut(v.StderrOffset, forErr, live))
	return list
}

// Input writes to stdin, for as long as the process takes to read it, or for the wait if there is one: then it tells how
// much was taken.
func (r *Registry) Input(ctx context.Context, e *Exec, body io.Reader, eof bool, wait time.Duration) (int64, error) {
	if e.stdin.file != nil {
		r.Activity()
	}
	defer r.Activity()
	if wait <= 0 {
		return e.stdin.write(ctx, body, eof)
	}
	patient, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	n, err := e.stdin.write(patient, body, eof)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return n, nil
	}
	return n, err
}
