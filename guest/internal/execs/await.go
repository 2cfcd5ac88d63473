package execs

import (
	"context"
	"time"

	"chorus-sandbox/guest/internal/pattern"
)

const (
	maxMatched = 2000
	// A waiter rests several times as long as it has looked, and does not look for long: output that comes faster than a
	// pattern goes through it costs a small share of a core, not all of it.
	lookMax    = 20 * time.Millisecond
	restFactor = 8
	restMin    = 2 * time.Millisecond
	restMax    = 250 * time.Millisecond
	// matchTime bounds a look for which nobody waits.
	matchTime = 2 * time.Second
	// stopEvery is how many lines are matched between two looks at the clock.
	stopEvery = 64
)

// Matched is the line that ended a wait.
type Matched struct {
	Stream string `json:"stream"`
	Offset int64  `json:"offset"`
	Line   string `json:"line"`
}

// awaiter looks for the first line that matches in both streams.
type awaiter struct {
	pattern *pattern.Pattern
	streams [2]namedScanner
	stop    func() bool
}

type namedScanner struct {
	name string
	*scanner
}

// stopper says when a look at output has to end.
func stopper(ctx context.Context, span time.Duration) func() bool {
	until := time.Now().Add(span)
	return func() bool { return ctx.Err() != nil || time.Now().After(until) }
}

// look goes through what is new, all of it or for a while; it says whether it came to the end.
func (a *awaiter) look(all bool) (found *Matched, through bool) {
	through = true
	for _, s := range a.streams {
		begin, count, done := time.Now(), 0, true
		s.scan(func(l line) bool {
			if from, _, ok := a.pattern.Find(l.text, a.stop); ok {
				found = &Matched{s.name, l.begin, pattern.Clip(l.text, from, maxMatched)}
				return false
			}
			if count++; count%stopEvery == 0 || l.size > spanMax {
				done = !a.stop() && (all || time.Since(begin) < lookMax)
			}
			return done
		})
		if found != nil {
			return found, true
		}
		through = through && done
	}
	return nil, through
}

// await waits as the view asks; what it returns is the line that ended the wait, if one did.
func (e *Exec) await(ctx context.Context, v *View) *Matched {
	wait := v.wait()
	var a *awaiter
	if v.untilMatch != nil {
		a = &awaiter{pattern: v.untilMatch, stop: stopper(ctx, lookTime(wait)), streams: [2]namedScanner{
			{"stdout", newScanner(e.stdout, v.StdoutOffset)}, {"stderr", newScanner(e.stderr, v.StderrOffset)}}}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		var changed <-chan struct{}
		if a != nil || v.Until == "output" {
			changed = e.Changed()
		}
		ended := e.Ended()
		begin, through := time.Now(), true
		if a != nil {
			var found *Matched
			if found, through = a.look(ended || wait <= 0); found != nil {
				return found
			}
		}
		if ended || wait <= 0 || v.Until == "output" && (e.stdout.Total() > v.StdoutOffset || e.stderr.Total() > v.StderrOffset) {
			return nil
		}
		if a != nil && !e.rest(ctx, timer, min(max(restFactor*time.Since(begin), restMin), restMax)) {
			return nil
		}
		if !through {
			continue
		}
		select {
		case <-e.done:
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// rest lets output gather; it says no when the wait is over.
func (e *Exec) rest(ctx context.Context, over *time.Timer, span time.Duration) bool {
	pause := time.NewTimer(span)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-e.done:
	case <-over.C:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// lookTime is at least long enough to go through the output of an exec that has ended.
func lookTime(wait time.Duration) time.Duration {
	if wait <= 0 {
		return matchTime
	}
	return max(wait, matchTime/10)
}
