// Package lease ends the sandbox when nobody wants it any more, with no server alive to do it.
package lease

import (
	"sync"
	"sync/atomic"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// Kinds of leases.
const (
	TTL  = "ttl"
	Idle = "idle"
	Boot = "boot"
)

// Lease counts on the boot clock, which goes on while the host is suspended.
type Lease struct {
	log  *facts.Log
	busy func() bool // running execs are activity
	over func(kind string)

	touched atomic.Int64 // the boot clock at the last activity

	mu      sync.Mutex
	timer   *sys.BootTimer
	claimed bool
	holder  string // who holds the sandbox until it is claimed for good, and held it then
	boot    time.Duration
	ttl     time.Duration // point of the boot clock, 0: none
	ttlSpan time.Duration // what it was set to
	idle    time.Duration // span, 0: none
	warned  map[string]bool
	ended   bool
}

// View is the wire form.
type View struct {
	Claimed         bool   `json:"claimed"`
	TTLRemainingMs  *int64 `json:"ttl_remaining_ms"`
	IdleRemainingMs *int64 `json:"idle_remaining_ms"`
}

// New starts the boot lease. over is called once, on a goroutine of its own.
func New(log *facts.Log, boot time.Duration, busy func() bool, over func(kind string)) *Lease {
	l := &Lease{log: log, busy: busy, over: over, timer: sys.NewBootTimer(), boot: sys.Boot() + boot, warned: map[string]bool{}}
	l.Touch()
	l.timer.Set(l.boot)
	go func() {
		for range l.timer.C() {
			l.check()
		}
	}()
	return l
}

// Touch notes activity. It only stores the time: the timer finds out when it fires.
func (l *Lease) Touch() { l.touched.Store(int64(sys.Boot())) }

// Change is what a server asks for; times count from now.
type Change struct {
	TTL, Idle *time.Duration // either claims the sandbox for good
	Boot      *time.Duration // moves the end of the boot lease
	Claim     string         // holds the sandbox for one claimant: the first wins
}

var (
	errClaimed = fault.New(fault.Claimed, "another claim holds this sandbox")
	errOver    = fault.New(fault.Ending, "its lease is over")
)

// Change does what is asked, all or nothing.
func (l *Lease) Change(c Change) (View, error) {
	l.mu.Lock()
	if err := l.change(c); err != nil {
		l.mu.Unlock()
		return View{}, err
	}
	l.mu.Unlock()
	l.check()
	return l.View(), nil
}

func (l *Lease) change(c Change) error {
	free := !l.claimed && l.holder == ""
	switch {
	case l.ended:
		return errOver
	case c.Claim != "" && c.Claim != l.holder && !free:
		return errClaimed
	// Whoever keeps warm sandboxes alive must not keep one whose claimant died.
	case c.Claim == "" && c.Boot != nil && !free:
		return errClaimed
	}
	if c.Claim != "" {
		l.holder = c.Claim
	}
	now := sys.Boot()
	if c.Boot != nil {
		l.boot = now + *c.Boot
	}
	if c.TTL != nil || c.Idle != nil || c.Boot == nil && c.Claim == "" {
		l.claimed = true
	}
	if c.TTL != nil {
		l.ttl, l.ttlSpan = now+*c.TTL, *c.TTL
		delete(l.warned, TTL)
	}
	if c.Idle != nil {
		l.idle = *c.Idle
		l.Touch()
		delete(l.warned, Idle)
	}
	return nil
}

// View tells what is left.
func (l *Lease) View() View {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := sys.Boot()
	v := View{Claimed: l.claimed}
	left := func(at time.Duration) *int64 {
		ms := max(0, at-now).Milliseconds()
		return &ms
	}
	switch {
	case !l.claimed:
		v.TTLRemainingMs = left(l.boot)
	case l.ttl > 0:
		v.TTLRemainingMs = left(l.ttl)
	}
	if l.idle > 0 {
		v.IdleRemainingMs = left(l.idleEnd(now))
	}
	return v
}

func (l *Lease) idleEnd(now time.Duration) time.Duration {
	if l.busy() {
		return now + l.idle
	}
	return time.Duration(l.touched.Load()) + l.idle
}

// check ends what is over, warns of what nearly is and sleeps until the next of both.
func (l *Lease) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	now := sys.Boot()
	if !l.claimed {
		l.await(Boot, now, l.boot, 0)
		return
	}
	next := time.Duration(0)
	if l.ttl > 0 {
		next = l.await(TTL, now, l.ttl, l.ttlSpan)
	}
	if l.idle > 0 && !l.ended {
		if at := l.await(Idle, now, l.idleEnd(now), l.idle); next == 0 || at < next {
			next = at
		}
	}
	if next > 0 && !l.ended {
		l.timer.Set(next)
	}
}

// await handles one lease that ends at end and returns when to look at it again.
func (l *Lease) await(kind string, now, end, span time.Duration) time.Duration {
	if now >= end {
		l.ended = true
		go l.over(kind)
		return 0
	}
	if kind == Boot {
		l.timer.Set(end)
		return end
	}
	notice := min(time.Minute, span/10)
	if end-now > notice {
		l.warned[kind] = false
		return end - notice
	}
	if !l.warned[kind] {
		l.warned[kind] = true
		l.log.Record("lease.expiring", facts.Fields{"lease": kind, "in_ms": (end - now).Milliseconds()})
	}
	return end
}
