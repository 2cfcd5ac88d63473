package test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// holdPython makes starts of python3 stand still, as a program inside could by a lease if it were not refused one.
func holdPython(t *testing.T, g *guest) {
	t.Helper()
	name := filepath.Join(g.dir, "work/.local/bin/python3")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	const setLease = 1024
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), setLease, syscall.F_WRLCK); e != 0 {
		t.Fatalf("lease: %v", e)
	}
}

// startPython begins a start that stands still and returns when it does.
func startPython(t *testing.T, g *guest) (answered chan object) {
	t.Helper()
	holdPython(t, g)
	before := g.processes()
	answered = make(chan object, 1)
	go func() {
		_, out := g.json("POST", "/v1/execs/"+newID(), object{"argv": []string{"python3"}})
		answered <- out
	}()
	eventually(t, "the start is under way", func() bool { return g.processes() > before })
	return answered
}

func took(t *testing.T, most time.Duration, what string, f func()) {
	t.Helper()
	begin := time.Now()
	if f(); time.Since(begin) > most {
		t.Errorf("%s took %v", what, time.Since(begin))
	}
}

func TestAStartThatStandsStillHoldsUpNoEndNoKillAndNoPause(t *testing.T) {
	g := serve(t)
	short := g.start(object{"command": "echo; sleep 1.5"})
	long := g.start(object{"command": "echo; sleep 300"})
	late := g.start(object{"command": "echo; sleep 300", "timeout_ms": 2000})
	answered := startPython(t, g)
	took(t, limit(3500*time.Millisecond), "ends", func() {
		if r := g.wait(short); r.str("status") != "exited" {
			t.Errorf("%v", r.object)
		}
		g.ok("POST", "/v1/execs/"+long+"/kill", object{})
		if r := g.wait(late); r.str("status") != "timed_out" {
			t.Errorf("%v", r.object)
		}
	})
	took(t, limit(2*time.Second), "the pause", func() { g.ok("POST", "/v1/pause", nil) })
	if out := <-answered; out["code"] != "PAUSED" {
		t.Errorf("the start says %v", out)
	}
	g.ok("POST", "/v1/resume", nil)
	if r := g.run("echo on"); r.out["stdout"] != "on\n" {
		t.Errorf("%v", r.object)
	}
}

func TestAStartThatStandsStillIsEnded(t *testing.T) {
	g := serve(t)
	answered := startPython(t, g)
	took(t, limit(7*time.Second), "the next start", func() {
		if r := g.run("echo next"); r.out["stdout"] != "next\n" {
			t.Errorf("%v", r.object)
		}
	})
	if out := <-answered; out["code"] != "EXEC_NOT_STARTED" || out["errno"] != "ETIMEDOUT" {
		t.Errorf("the start says %v", out)
	}
	eventually(t, "nothing is left", func() bool { return g.processes() == 0 })
}

func TestAStartThatStandsStillDoesNotOutliveTheLease(t *testing.T) {
	g := serve(t)
	startPython(t, g)
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 200})
	took(t, limit(3*time.Second), "the end", func() {
		if code := g.exitCode(); code != 80 {
			t.Errorf("exit code %d", code)
		}
	})
	if got := kinds(g.recorded()); got != "boot lease.expiring lease.over" {
		t.Errorf("facts: %s", got)
	}
}

// A child has the uid of the commands before it executes: whoever stops all of that uid stops it there, now and then.
func TestStartsAmongStopsOfEverything(t *testing.T) {
	g := serve(t)
	g.start(object{"command": "echo; while :; do kill -STOP -1; done 2>/dev/null"})
	for begin := time.Now(); time.Since(begin) < 8*time.Second; {
		took(t, limit(7*time.Second), "a start", func() {
			g.json("POST", "/v1/execs/"+newID(), object{"argv": []string{"true"}})
		})
	}
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 1})
	took(t, limit(5*time.Second), "the end", func() {
		if code := g.exitCode(); code != 80 {
			t.Errorf("exit code %d", code)
		}
	})
}
