package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// vforker is a command whose main process waits in the kernel, where a stop reaches it only after its child has ended.
func vforker() {
	fmt.Println("waiting")
	pause := syscall.Timespec{Nsec: 700_000_000}
	spawn(&pause)
	fmt.Println("done")
}

// copySelf puts the test's own program where a command may start it.
func copySelf(t *testing.T, g *guest) string {
	t.Helper()
	at := filepath.Join(g.dir, "self")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestResumeReachesWhatHadNotStoppedYet(t *testing.T) {
	g := serve(t)
	id := g.start(object{"argv": []string{copySelf(t, g), "vforker"}})
	g.ok("POST", "/v1/pause", nil)
	g.ok("POST", "/v1/resume", nil)
	if r := g.wait(id); r.str("status") != "exited" || r.out["stdout"] != "waiting\ndone\n" {
		t.Errorf("%v %q", r.object, r.out)
	}
}

func TestAForkStormStandsStillWhilePaused(t *testing.T) {
	g := serve(t)
	g.ok("PATCH", "/v1/limits", object{"pids": 100})
	storm := g.start(object{"command": "echo go; storm() { echo x; storm & storm & wait; }; storm 2>/dev/null"})
	g.ok("POST", "/v1/pause", nil)
	produced := func() int64 { return int64(g.view("/v1/execs/"+storm+"/view", object{}).num("stdout_bytes")) }
	// What had been written before the stop may still be on its way.
	g.view("/v1/execs/"+storm+"/view", object{"wait_ms": 300})
	before := produced()
	g.view("/v1/execs/"+storm+"/view", object{"wait_ms": 500})
	if after := produced(); after != before {
		t.Errorf("it wrote %d bytes while paused", after-before)
	}
	g.ok("POST", "/v1/resume", nil)
	g.ok("POST", "/v1/execs/"+storm+"/kill", object{"signal": "KILL"})
	eventually(t, "nothing is left", func() bool { return g.processes() == 0 })
}
