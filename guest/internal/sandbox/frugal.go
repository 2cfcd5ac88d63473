package sandbox

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"chorus-sandbox/guest/internal/sys"
)

const (
	// settleAfter is the silence after a burst before memory is looked at, which is also the least time between two looks.
	settleAfter = 5 * time.Second
	// hoard is how much free heap may stay.
	hoard = 4 << 20
)

// settler returns memory to the system after bursts: what the guest holds counts to the sandbox, and there may be hundreds.
type settler struct {
	mu    sync.Mutex
	timer *time.Timer
}

// stir is called at each activity.
func (s *settler) stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil {
		s.timer = time.AfterFunc(settleAfter, settle)
		return
	}
	s.timer.Reset(settleAfter)
}

func settle() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	// Garbage that no collection has seen yet is counted as in use.
	if m.HeapSys-m.HeapReleased > hoard {
		debug.FreeOSMemory()
	}
	sys.ForgetProgram()
}

// warm makes the runtime create n threads now. Later, when a fork bomb holds every process of the sandbox, it could
// not, and a Go program that cannot make a thread it needs ends.
func warm(n int) {
	var all, ready sync.WaitGroup
	all.Add(n)
	ready.Add(n)
	release := make(chan struct{})
	for range n {
		go func() {
			defer all.Done()
			runtime.LockOSThread() // a locked goroutine that waits keeps its thread
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		}()
	}
	ready.Wait()
	close(release)
	all.Wait()
}
