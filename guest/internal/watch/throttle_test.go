package watch

import (
	"testing"
	"time"
)

func TestThrottlingIsToldOnceAndAgainOnlyAfterRest(t *testing.T) {
	now, count := time.Now(), int64(0)
	var th Throttle
	th.Begin(now, count)
	told := func(seconds int, share float64) (times int) {
		for range seconds {
			now, count = now.Add(time.Second), count+int64(share*1000)
			if held, long := th.Look(now, count); long {
				times++
				if held < 2*time.Second {
					t.Errorf("held back for %v", held)
				}
			}
		}
		return times
	}
	for i, step := range []struct {
		seconds int
		share   float64
		want    int
	}{
		{9, 0.5, 0},  // not long
		{1, 0.1, 0},  // a breath
		{9, 0.5, 0},  // starts over
		{1, 0.5, 1},  // long
		{60, 0.9, 0}, // told
		{9, 0, 0},    // rests, not for long
		{30, 0.5, 0}, // told still
		{60, 0.1, 0}, // neither held back nor free
		{10, 0.01, 0},
		{10, 0.2, 1}, // the edge itself
	} {
		if got := told(step.seconds, step.share); got != step.want {
			t.Errorf("step %d: told %d times, want %d", i, got, step.want)
		}
	}
	th.Begin(now.Add(time.Hour), count)
	now = now.Add(time.Hour)
	if got := told(60, 0.5); got != 0 {
		t.Errorf("a pause between commands is no rest: told %d times", got)
	}
}
