package proc

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"chorus-sandbox/guest/internal/sys"
)

// held is a program whose start stands still: whoever opens it waits for a lease that is not given back.
func held(t *testing.T) string {
	t.Helper()
	file, err := os.CreateTemp("", "program")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file.Name()) })
	_ = file.Chmod(0o755)
	file.Close()
	if file, err = os.Open(file.Name()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	const setLease = 1024
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), setLease, syscall.F_WRLCK); e != 0 {
		t.Fatalf("lease: %v", e)
	}
	return file.Name()
}

// marked matches what has the group of one start.
func marked(gid int) Match {
	return func(all []Entry) []Entry {
		return slices.DeleteFunc(all, func(e Entry) bool { return !e.InGroup(gid) })
	}
}

// stuck begins a start that stands still.
func stuck(t *testing.T, s *Spawner, gid int) (failed chan error) {
	t.Helper()
	name := held(t)
	failed = make(chan error, 1)
	go func() {
		_, err := s.Start(spec(gid, name))
		failed <- err
	}()
	for begin := time.Now(); len(Find(marked(gid))) == 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the start did not begin")
		}
	}
	return failed
}

func within(t *testing.T, limit time.Duration, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not within %v: %s", limit, what)
	}
}

func TestAStartThatStandsStillHoldsUpNoEndAndNoRefusal(t *testing.T) {
	needRoot(t)
	s := NewSpawner(reaper, User{testUid, testUid})
	before := start(t, s, 1_000_300, "/bin/sleep", "0.2")
	failed := stuck(t, s, 1_000_301)
	// Before the start is ended for taking too long.
	within(t, startMax-time.Second, "the end of another child", before.Done())

	paused := errors.New("paused")
	refused := make(chan struct{})
	go func() {
		s.Refuse(paused)
		close(refused)
	}()
	within(t, startMax-time.Second, "no start is under way", refused)
	if err := <-failed; err != paused {
		t.Errorf("the start says %v", err)
	}
	if _, err := s.Start(spec(1_000_302, "/bin/true")); err != paused {
		t.Errorf("a later start says %v", err)
	}
	if left := Find(marked(1_000_301)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.Refuse(nil)
	<-start(t, s, 1_000_303, "/bin/true").Done()
	if !reaper.Childless() {
		t.Error("children are left")
	}
}

func TestAStartThatStandsStillIsEndedAndTheNextGetsItsTurn(t *testing.T) {
	needRoot(t)
	s := NewSpawner(reaper, User{testUid, testUid})
	failed := stuck(t, s, 1_000_310)
	next := make(chan struct{})
	go func() {
		<-start(t, s, 1_000_311, "/bin/true").Done()
		close(next)
	}()
	within(t, startMax+7*time.Second, "the next start", next)
	if err := <-failed; err != ErrStuck {
		t.Errorf("the start says %v", err)
	}
}

func TestEndsAreNotMixedUpWithThoseOfOrphans(t *testing.T) {
	needRoot(t)
	if err := sys.BecomeSubreaper(); err != nil {
		t.Fatal(err)
	}
	s := NewSpawner(reaper, User{testUid, testUid})
	orphans := start(t, s, 1_000_320, "/bin/sh", "-c", "for i in $(seq 300); do (sleep 0.0$((i % 7)) & ); done")
	for i := range 100 {
		p := start(t, s, 1_000_321+i, "/bin/sh", "-c", "exit "+string(rune('0'+i%10)))
		within(t, 15*time.Second, "the end of a child", p.Done())
		if got := p.Status().ExitStatus(); got != i%10 {
			t.Errorf("child %d: exit %d", i, got)
		}
	}
	within(t, 15*time.Second, "the end of all", orphans.Done())
	for begin := time.Now(); !reaper.Childless(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("orphans are left")
		}
	}
}
