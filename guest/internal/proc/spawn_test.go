package proc

import (
	"os"
	"syscall"
	"testing"
)

const testUid = 23456

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts processes as another user: run it as root")
	}
}

var reaper = NewReaper()

var null, _ = os.OpenFile("/dev/null", os.O_RDWR, 0)

func spec(gid int, argv ...string) Spec {
	return Spec{
		Path: argv[0], Argv: argv, Dir: "/", Gid: gid, Env: []string{"PATH=/usr/bin:/bin"},
		Files: [3]uintptr{null.Fd(), null.Fd(), null.Fd()},
	}
}

func start(t testing.TB, s *Spawner, gid int, argv ...string) *Process {
	t.Helper()
	p, err := s.Start(spec(gid, argv...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The cost of stopping the child before its first instruction is the difference of the two.
func BenchmarkStart(b *testing.B) {
	needRoot(b)
	for name, untraced := range map[string]bool{"traced": false, "untraced": true} {
		b.Run(name, func(b *testing.B) {
			s := NewSpawner(reaper, User{testUid, testUid})
			s.untraced.Store(untraced)
			for b.Loop() {
				<-start(b, s, 1_000_000, "/bin/true").Done()
			}
		})
	}
}

func TestChildIsTheOomKillersChoiceFromItsFirstInstruction(t *testing.T) {
	needRoot(t)
	for _, untraced := range []bool{false, true} {
		s := NewSpawner(reaper, User{testUid, testUid})
		s.untraced.Store(untraced)
		script := "read score < /proc/self/oom_score_adj; exit $((score / 10))"
		if untraced {
			script = "sleep 0.2; " + script // there it is only true soon after the start
		}
		p := start(t, s, 1_000_001, "/bin/sh", "-c", script)
		<-p.Done()
		if code := p.Status().ExitStatus(); code != 100 {
			t.Errorf("untraced=%v: oom_score_adj was %d0", untraced, code)
		}
	}
}

func TestReaperTellsEachEndOnceAndSeesWhenNoChildIsLeft(t *testing.T) {
	needRoot(t)
	s := NewSpawner(reaper, User{testUid, testUid})
	var children []*Process
	for i := range 50 {
		children = append(children, start(t, s, 1_000_100+i, "/bin/sh", "-c", "exit "+string(rune('0'+i%10))))
	}
	for i, p := range children {
		<-p.Done()
		if got := p.Status().ExitStatus(); got != i%10 {
			t.Errorf("child %d: exit %d", i, got)
		}
	}
	p := start(t, s, 1_000_200, "/bin/sh", "-c", "kill -USR1 $$")
	<-p.Done()
	if !p.Status().Signaled() || p.Status().Signal() != syscall.SIGUSR1 {
		t.Errorf("status %v", p.Status())
	}
	if !reaper.Childless() {
		t.Error("children are left")
	}
}
