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

// Sight is what a view shows.
type Sight struct {
	Info    Info
	Pieces  []Piece
	Matched *Matched
	// MatchTotal is how many lines match, MatchPartial says that not all were looked at, MatchMore that not all are shown.
	MatchTotal   *int
	MatchPartial bool
	MatchMore    bool
}

// Look waits as the view asks and returns the exec and its output from the offsets on.
func (e *Exec) Look(ctx context.Context, v *View) Sight {
	matched := e.await(ctx, v)
	e.Recount()
	for {
		ended := e.Ended()
		sight := e.see(ctx, v)
		sight.Info, sight.Matched = e.Info(), matched
		// An exec that ended in between has output the pieces lack: look again, so that "ended" always means "all of it".
		if ended == (sight.Info.Status != Running) || ended {
			return sight
		}
		<-e.done
	}
}

// cutting is how much a stream has to show and how to get at most so much of it.
type cutting struct {
	stream    string
	available int64
	cut       func(limit int64) []spool.Segment
}

// see shares max_bytes out: each stream half of it, and what one does not need goes to the other.
func (e *Exec) see(ctx context.Context, v *View) Sight {
	sight := Sight{Pieces: []Piece{}}
	stdout, stderr := v.StdoutOffset, v.StderrOffset
	if v.TailLines != nil {
		stdout, stderr = e.stdout.LastLines(stdout, *v.TailLines), e.stderr.LastLines(stderr, *v.TailLines)
	}
	var out, err cutting
	spans := 0
	if v.match != nil {
		stop := stopper(ctx, matchTime)
		inOut, inErr := find(e.stdout, stdout, v.match, stop), find(e.stderr, stderr, v.match, stop)
		total := inOut.total + inErr.total
		sight.MatchTotal, sight.MatchPartial = &total, inOut.partial || inErr.partial
		sight.MatchMore, spans = inOut.crowded || inErr.crowded, len(inOut.spans)+len(inErr.spans)
		most := min(len(inErr.spans), max(maxSpans/2, maxSpans-len(inOut.spans)))
		out = cutting{"stdout", inOut.size(), func(n int64) []spool.Segment { return inOut.cut(e.stdout, n, maxSpans-most) }}
		err = cutting{"stderr", inErr.size(), func(n int64) []spool.Segment { return inErr.cut(e.stderr, n, most) }}
	} else {
		live := !e.Ended()
		out, err = shown("stdout", e.stdout, stdout, v, live), shown("stderr", e.stderr, stderr, v, live)
	}
	limit := v.maxBytes()
	forErr := min(err.available, limit/2)
	forOut := min(out.available, limit-forErr)
	forErr = min(err.available, limit-forOut)
	sight.add(out, forOut)
	sight.add(err, forErr)
	sight.MatchMore = sight.MatchMore || len(sight.Pieces) < spans
	return sight
}

func shown(name string, s *spool.Spool, offset int64, v *View, live bool) cutting {
	cut := s.Cut
	if v.TailLines != nil {
		cut = s.CutTail
	}
	return cutting{name, s.Available(offset), func(limit int64) []spool.Segment { return cut(offset, limit, live) }}
}

func (s *Sight) add(c cutting, limit int64) {
	for _, g := range c.cut(limit) {
		if len(g.Data) > 0 {
			s.Pieces = append(s.Pieces, Piece{c.stream, g.From, len(g.Data), g.Data})
		}
	}
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
