package lease

import (
	"net/http"
	"testing"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
)

func TestALeaseThatIsOverStaysOver(t *testing.T) {
	moment, long := time.Millisecond, time.Hour
	for kind, last := range map[string]Change{TTL: {TTL: &moment}, Idle: {Idle: &moment}, Boot: {Boot: &moment}} {
		t.Run(kind, func(t *testing.T) {
			over := make(chan string, 1)
			l := New(facts.NewLog(nil), time.Hour, func() bool { return false }, func(kind string) { over <- kind })
			if _, err := l.Change(last); err != nil {
				t.Fatal(err)
			}
			if got := <-over; got != kind {
				t.Errorf("%s is over", got)
			}
			for _, late := range []Change{{TTL: &long}, {Idle: &long}, {Boot: &long}, {Claim: "one", Boot: &long}, {}} {
				view, err := l.Change(late)
				if f := fault.Of(err); err == nil || f.Code != fault.Ending || f.Status() != http.StatusConflict {
					t.Errorf("%+v: %v, %+v", late, err, view)
				}
			}
			if left := l.View().TTLRemainingMs; left != nil && kind != Idle && *left > 0 {
				t.Errorf("%d ms are left", *left)
			}
		})
	}
}
