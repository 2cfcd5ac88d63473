package watch

import "time"

const (
	// A command that is held back for a moment is ordinary; after this long it is told.
	heldLong = 10 * time.Second
	// Shares of the time: at least the first is being held back, less than the second is running freely.
	heldShare = 0.2
	freeShare = 0.05
)

// Throttle judges how long the processor has been held back, with hysteresis: it is told once, and again only after commands
// ran freely for as long as it takes to be told.
type Throttle struct {
	at     time.Time
	count  int64 // milliseconds, as the kernel counts them
	streak time.Duration
	held   time.Duration // of the streak
	free   time.Duration
	told   bool
}

// Begin starts over from this count; what was told stays told.
func (t *Throttle) Begin(at time.Time, count int64) {
	t.at, t.count = at, count
	t.streak, t.held, t.free = 0, 0, 0
}

// Look takes the count as it is now; long is true when it is time to tell, with how much of the streak was held back.
func (t *Throttle) Look(at time.Time, count int64) (held time.Duration, long bool) {
	passed, back := at.Sub(t.at), time.Duration(count-t.count)*time.Millisecond
	t.at, t.count = at, count
	if passed <= 0 {
		return 0, false
	}
	switch share := float64(back) / float64(passed); {
	case share >= heldShare:
		t.streak, t.held, t.free = t.streak+passed, t.held+back, 0
	case share < freeShare:
		t.streak, t.held, t.free = 0, 0, t.free+passed
	default:
		t.streak, t.held, t.free = 0, 0, 0
	}
	if t.free >= heldLong {
		t.told = false
	}
	if t.told || t.streak < heldLong {
		return 0, false
	}
	t.told = true
	return t.held, true
}
