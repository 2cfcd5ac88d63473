package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestBootLease(t *testing.T) {
	g := serve(t, "--boot-lease-ms", "3000")
	if l := g.ok("GET", "/v1/health", nil)["lease"].(object); l["claimed"] != false || l["idle_remaining_ms"] != nil {
		t.Errorf("%v", l)
	}
	if code := g.exitCode(); code != 82 {
		t.Errorf("exit code %d", code)
	}
	if got := kinds(g.recorded()); got != "boot lease.over" {
		t.Errorf("facts: %s", got)
	}
}

func TestTtlEndsRunningExecsAndTellsOfThem(t *testing.T) {
	g := serve(t)
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 3000, "idle_ms": 60000})
	id := g.start(object{"command": "echo ready; trap '' TERM; setsid sleep 300 & wait", "meta": object{"a": 1}})
	r := g.wait(id)
	if r.str("status") != "killed" || r.str("ended_by") != "sandbox" || r.num("duration_ms") > 3000+int(limit(2*time.Second).Milliseconds()) {
		t.Errorf("%v", r.object)
	}
	if code := g.exitCode(); code != 80 {
		t.Errorf("exit code %d", code)
	}
	facts := g.recorded()
	if got := kinds(facts); got != "boot exec.started lease.expiring lease.over exec.ended" {
		t.Errorf("facts: %s", got)
	}
	if meta := fmt.Sprint(facts[len(facts)-1]["meta"]); meta != "map[a:1]" {
		t.Errorf("meta %s", meta)
	}
	if n := g.processes(); n > 0 {
		t.Errorf("%d processes outlived the sandbox", n)
	}
}

func TestIdleCountsFromTheLastActivity(t *testing.T) {
	g := serve(t)
	const idle = 4 * time.Second
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 60000, "idle_ms": idle.Milliseconds()})
	left := func() time.Duration {
		l := g.ok("GET", "/v1/health", nil)["lease"].(object)
		return time.Duration(l["idle_remaining_ms"].(float64)) * time.Millisecond
	}
	// Running for longer than the idle time is activity; its end starts the count.
	begin := time.Now()
	g.run("sleep 4.5")
	if l := left(); l < idle-(time.Since(begin)-4500*time.Millisecond)-time.Millisecond {
		t.Errorf("%v are left %v after the start", l, time.Since(begin))
	}
	time.Sleep(time.Second)
	asked := time.Now()
	g.ok("GET", "/v1/files/list?path=.", nil) // activity
	touched := time.Now()
	if l := left(); l < idle-time.Since(asked)-time.Millisecond {
		t.Errorf("%v are left %v after the last activity", l, time.Since(asked))
	}
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		g.ok("GET", "/v1/stats", nil) // neither is any of these, nor asking what is left
		g.ok("GET", "/v1/facts", nil)
		g.ok("GET", "/v1/execs", nil)
		since := time.Since(touched)
		if l := left(); l > idle-since+time.Millisecond {
			t.Errorf("%v are left %v after the last activity", l, since)
		}
	}
	if code := g.exitCode(); code != 81 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(asked); took < idle-time.Millisecond || took > idle+limit(2500*time.Millisecond) {
		t.Errorf("ended %v after the last activity", took)
	}
}

func TestLeaseMovesBothWays(t *testing.T) {
	g := serve(t)
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 2000})
	l := g.ok("PUT", "/v1/lease", object{"ttl_ms": 3600_000})
	if l["ttl_remaining_ms"].(float64) < 3_500_000 || l["idle_remaining_ms"] != nil || l["claimed"] != true {
		t.Errorf("%v", l)
	}
	time.Sleep(2100 * time.Millisecond)
	g.ok("GET", "/v1/health", nil)
	g.ok("PUT", "/v1/lease", object{"ttl_ms": 100})
	if code := g.exitCode(); code != 80 {
		t.Errorf("exit code %d", code)
	}
	g2 := serve(t)
	for _, bad := range []object{{"ttl_ms": 0}, {"idle_ms": -5}, {"ttl_ms": "soon"}} {
		g2.refused("INVALID_ARGUMENT", "PUT", "/v1/lease", bad)
	}
	if g2.ok("GET", "/v1/health", nil)["lease"].(object)["claimed"] != false {
		t.Error("a refused lease claimed the sandbox")
	}
}

func TestShutdown(t *testing.T) {
	g := serve(t)
	g.start(object{"command": "echo; sleep 300"})
	g.ok("POST", "/v1/shutdown", object{"reason": "test"})
	if code := g.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	facts := g.recorded()
	if got := kinds(facts); got != "boot exec.started shutdown exec.ended" || facts[2]["reason"] != "test" {
		t.Errorf("facts: %s", got)
	}
}

func TestSetUpThatFailsSaysSo(t *testing.T) {
	for _, args := range [][]string{
		{"serve", "--sandbox-id", "x", "--uid", "0"}, {"serve", "--sandbox-id", "a b", "--uid", "5"}, {"serve"}, {"nonsense"}, {},
		{"serve", "--sandbox-id", "x", "--uid", "5", "--workdir", "/proc/nowhere", "--tmp", t.TempDir(), "--run", t.TempDir()},
	} {
		out, err := exec.Command(program, args...).CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != 84 || strings.TrimSpace(string(out)) == "" {
			t.Errorf("%v: %v %q", args, err, out)
		}
	}
}

func TestSignalsDoNotEndIt(t *testing.T) {
	g := serve(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGPIPE, syscall.SIGALRM} {
		if err := g.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if r := g.run("echo alive; kill -TERM $$"); r.out["stdout"] != "alive\n" || r.str("signal") != "TERM" {
		t.Errorf("%v %q", r.object, r.out)
	}
}

func TestFlightRecorderNeverBlocks(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g := newGuest(t)
	g.launch(w)
	w.Close()
	meta := strings.Repeat("m", 1900)
	for range 60 { // each leaves two facts of 2 KB: the pipe holds 64 KB
		g.exec(newID(), object{"command": "true", "meta": meta})
	}
	go func() {
		buf := make([]byte, 1<<16)
		_, _ = r.Read(buf) // room for the next lines
		g.run("true")
		g.ok("POST", "/v1/shutdown", object{})
	}()
	g.exitCode()
	text := make([]byte, 1<<20)
	n := 0
	for {
		m, err := r.Read(text[n:])
		n += m
		if err != nil {
			break
		}
	}
	lost := false
	for _, line := range strings.Split(strings.TrimSpace(string(text[:n])), "\n") {
		if len(line) >= 4096 || !strings.HasSuffix(line, "}") {
			t.Errorf("a line of %d bytes: %.60q", len(line), line)
		}
		lost = lost || strings.Contains(line, `"lost":`)
	}
	if !lost {
		t.Error("lost lines were not counted")
	}
}

func TestTheFirstClaimHoldsAWarmSandbox(t *testing.T) {
	g := serve(t, "--boot-lease-ms", "60000")
	lease := func(change object) object { return g.ok("PUT", "/v1/lease", change) }
	if l := lease(object{"boot_ms": 30000}); l["claimed"] != false || l["ttl_remaining_ms"].(float64) > 30000 {
		t.Errorf("kept: %v", l)
	}
	if l := lease(object{"claim": "one", "boot_ms": 20000}); l["claimed"] != false || l["ttl_remaining_ms"].(float64) > 20000 {
		t.Errorf("held: %v", l)
	}
	lease(object{"claim": "one", "boot_ms": 20000})
	for _, refused := range []object{{"claim": "two", "boot_ms": 20000}, {"claim": "two", "ttl_ms": 60000}, {"boot_ms": 90000}} {
		g.refused("CLAIMED", "PUT", "/v1/lease", refused)
	}
	if l := g.ok("GET", "/v1/health", nil)["lease"].(object); l["claimed"] != false || l["ttl_remaining_ms"].(float64) > 20000 {
		t.Errorf("after refusals: %v", l)
	}
	if l := lease(object{"claim": "one", "ttl_ms": 60000, "idle_ms": 50000}); l["claimed"] != true || l["idle_remaining_ms"] == nil {
		t.Errorf("claimed: %v", l)
	}
	g.refused("CLAIMED", "PUT", "/v1/lease", object{"claim": "two", "boot_ms": 1})
	g.refused("CLAIMED", "PUT", "/v1/lease", object{"boot_ms": 1})
	if l := lease(object{"idle_ms": 40000}); l["claimed"] != true {
		t.Errorf("changed later: %v", l)
	}
}

func TestAClaimNobodyFollowsUpRunsOut(t *testing.T) {
	g := serve(t, "--boot-lease-ms", "60000")
	g.ok("PUT", "/v1/lease", object{"claim": "one", "boot_ms": 3000})
	g.refused("CLAIMED", "PUT", "/v1/lease", object{"boot_ms": 60000})
	if code := g.exitCode(); code != 82 {
		t.Errorf("exit code %d", code)
	}
}
