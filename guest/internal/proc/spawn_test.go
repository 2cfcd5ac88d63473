package proc

import (
	"os"
	"strings"
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

func BenchmarkStart(b *testing.B) {
	needRoot(b)
	s := NewSpawner(reaper, User{testUid, testUid})
	for b.Loop() {
		<-start(b, s, 1_000_000, "/bin/true").Done()
	}
}

func TestChildIsTheOomKillersChoiceFromItsFirstInstruction(t *testing.T) {
	needRoot(t)
	s := NewSpawner(reaper, User{testUid, testUid})
	p := start(t, s, 1_000_001, "/bin/sh", "-c", "read score < /proc/self/oom_score_adj; exit $((score / 10))")
	<-p.Done()
	if code := p.Status().ExitStatus(); code != 100 {
		t.Errorf("oom_score_adj was %d0", code)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || strings.TrimSpace(string(own)) == "1000" {
		t.Errorf("the guest's own is %q (%v)", own, err)
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
