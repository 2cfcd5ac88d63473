package test

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// withFifos makes a guest that finds a FIFO which nobody writes to in the place of each file, as an image may have it.
func withFifos(t *testing.T, files ...string) *guest {
	t.Helper()
	g := newGuest(t)
	fifo := g.dir + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		script += "mount --bind " + fifo + " " + file + " && "
	}
	g.wrapper = inMounts(t, script)
	return g
}

// inMounts runs the guest in a mount namespace of its own, after the script.
func inMounts(t *testing.T, script string) []string {
	t.Helper()
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Fatalf("a mount namespace is needed, which root with CAP_SYS_ADMIN may make: %v", err)
	}
	return []string{"unshare", "-m", "sh", "-c", script + `exec "$@"`, "sh"}
}

func (g *guest) factsFile() *os.File {
	g.t.Helper()
	out, err := os.Create(g.dir + "/facts")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { out.Close() })
	g.facts = out.Name()
	return out
}

func TestImageWithFifosForFiles(t *testing.T) {
	g := withFifos(t, "/etc/passwd", "/etc/localtime", "/etc/group", "/etc/hosts")
	g.launch(g.factsFile())
	// No shell: it would look itself who it is.
	run := func(argv ...string) result {
		return g.exec(newID(), object{"argv": argv})
	}
	if r := run("printenv", "USER"); r.out["stdout"] != "sandbox\n" {
		t.Errorf("%v", r.object)
	}
	// What it logs has the time.
	run("truncate", "-s", "50000000", "shrinks")
	res, err := g.client.Get("http://guest/v1/files/tar?path=shrinks")
	if err != nil {
		t.Fatal(err)
	}
	run("truncate", "-s", "1000", "shrinks")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}()
	select {
	case <-ended:
	case <-time.After(limit(5 * time.Second)):
		t.Error("the guest waits for its time zone")
	}
}

func TestImageWithoutShell(t *testing.T) {
	g := newGuest(t)
	g.wrapper = inMounts(t, "mount -t tmpfs tmpfs /bin && ")
	g.launch(g.factsFile())
	if shell := g.ok("GET", "/v1/health", nil)["shell"]; shell != "" {
		t.Errorf("shell %v", shell)
	}
	out := g.refused("EXEC_NOT_STARTED", "POST", "/v1/execs/"+newID(), object{"command": "true"})
	if out["errno"] != "ENOENT" || out["kind"] != "shell" {
		t.Errorf("%v", out)
	}
	out = g.refused("EXEC_NOT_STARTED", "POST", "/v1/execs/"+newID(), object{"argv": []string{"/bin/true"}})
	if out["errno"] != "ENOENT" || out["kind"] != nil {
		t.Errorf("%v", out)
	}
}

func TestSetUpThatNeverEndsDoesSoWithTheBootLease(t *testing.T) {
	g := withFifos(t, "/dev/null")
	g.begin(g.factsFile(), "--boot-lease-ms", "300")
	if code := g.exitCode(); code != 82 {
		t.Errorf("exit code %d", code)
	}
	if got := kinds(g.recorded()); got != "boot lease.over" {
		t.Errorf("facts: %s", got)
	}
}
