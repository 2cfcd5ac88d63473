// Package test drives a real guest over its socket.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var program string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "vforker" {
		vforker()
		return
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "the guest runs commands as another user: run these tests as root")
		os.Exit(1)
	}
	for _, needed := range []string{"ps", "pkill", "python3"} {
		if _, err := exec.LookPath(needed); err != nil {
			fmt.Fprintln(os.Stderr, "these tests need programs of the machine, see scripts/lib/checks.mjs:", err)
			os.Exit(1)
		}
	}
	dir, err := os.MkdirTemp("", "guest-bin-")
	if err != nil {
		panic(err)
	}
	_ = os.Chmod(dir, 0o755)
	program = filepath.Join(dir, "guest")
	args := append(append([]string{"build"}, buildFlags...), "-o", program, "chorus-sandbox/guest")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n", out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var uids atomic.Int64

type guest struct {
	t       testing.TB
	dir     string
	uid     int
	cmd     *exec.Cmd
	wrapper []string // the command line that the guest's is given to
	client  *http.Client
	facts   string
	exited  chan error
}

// serve starts a guest with directories and a uid of its own. Extra flags win.
func serve(t testing.TB, flags ...string) *guest {
	t.Helper()
	g := newGuest(t)
	out, err := os.Create(filepath.Join(g.dir, "facts"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	g.facts = out.Name()
	g.launch(out, flags...)
	return g
}

func newGuest(t testing.TB) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest-")
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(dir, 0o755)
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Two runs at once on one machine must not stop and kill each other's processes.
	return &guest{t: t, dir: dir, uid: 41000 + os.Getpid()%180*100 + int(uids.Add(1))}
}

func (g *guest) launch(stdout *os.File, flags ...string) {
	g.t.Helper()
	g.begin(stdout, flags...)
	eventually(g.t, "the guest answers", func() bool {
		res, err := g.client.Get("http://guest/v1/health")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// begin starts it and waits for nothing.
func (g *guest) begin(stdout *os.File, flags ...string) {
	g.t.Helper()
	args := []string{"serve", "--sandbox-id", "sb_test", "--uid", strconv.Itoa(g.uid), "--workdir", g.dir + "/work",
		"--tmp", g.dir + "/tmp", "--run", g.dir + "/run", "--boot-lease-ms", "3600000"} // few tests claim their sandbox
	args = append(append(g.wrapper, program), append(args, flags...)...)
	g.cmd = exec.Command(args[0], args[1:]...)
	g.cmd.Stdout, g.cmd.Stderr = stdout, os.Stderr
	g.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GUEST_SECRET=do-not-inherit"}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.exited = make(chan error, 1)
	go func() { g.exited <- g.cmd.Wait() }()
	g.t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = exec.Command("pkill", "-KILL", "-U", strconv.Itoa(g.uid)).Run()
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", g.dir+"/run/guest.sock")
	}}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	g.client = &http.Client{Transport: transport}
	g.t.Cleanup(transport.CloseIdleConnections)
}

// patience is for what comes at once unless the machine is busy.
const patience = time.Minute

// eventually polls a condition nobody tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

type object = map[string]any

func (g *guest) raw(method, path string, body io.Reader) (int, []byte) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://guest"+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	if res.Header.Get("guest-api") != "1" {
		g.t.Errorf("%s %s: no guest-api header", method, path)
	}
	return res.StatusCode, data
}

func (g *guest) json(method, path string, body any) (int, object) {
	g.t.Helper()
	var in io.Reader
	if body != nil {
		text, _ := json.Marshal(body)
		in = bytes.NewReader(text)
	}
	status, data := g.raw(method, path, in)
	line, _, _ := bytes.Cut(data, []byte("\n"))
	var out object
	if err := json.Unmarshal(line, &out); err != nil {
		g.t.Fatalf("%s %s: %v in %q", method, path, err, data)
	}
	return status, out
}

// ok is json, and anything but 200 is fatal.
func (g *guest) ok(method, path string, body any) object {
	g.t.Helper()
	status, out := g.json(method, path, body)
	if status != 200 {
		g.t.Fatalf("%s %s: %d %v", method, path, status, out)
	}
	return out
}

// refused expects an error code.
func (g *guest) refused(code, method, path string, body any) object {
	g.t.Helper()
	status, out := g.json(method, path, body)
	if status < 400 || out["code"] != code {
		g.t.Fatalf("%s %s: wanted %s, got %d %v", method, path, code, status, out)
	}
	return out
}

// result is a decoded view.
type result struct {
	object
	facts    object
	segments []object
	out      map[string]string
}

func (r result) str(name string) string { s, _ := r.object[name].(string); return s }
func (r result) num(name string) int    { n, _ := r.object[name].(float64); return int(n) }

func (g *guest) framed(method, path string, body any) (object, []byte) {
	g.t.Helper()
	text, _ := json.Marshal(body)
	status, data := g.raw(method, path, bytes.NewReader(text))
	if status != 200 {
		g.t.Fatalf("%s %s: %d %s", method, path, status, data)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var header object
	if err := json.Unmarshal(line, &header); err != nil {
		g.t.Fatal(err)
	}
	return header, rest
}

func (g *guest) view(path string, body object) result {
	g.t.Helper()
	return g.decoded(g.framed("POST", path, body))
}

func (g *guest) decoded(header object, rest []byte) result {
	g.t.Helper()
	r := result{object: header["exec"].(object), out: map[string]string{}}
	r.facts, _ = header["facts"].(object)
	for _, s := range header["segments"].([]any) {
		s := s.(object)
		n := int(s["len"].(float64))
		r.segments = append(r.segments, s)
		r.out[s["stream"].(string)] += string(rest[:n])
		rest = rest[n:]
	}
	if len(rest) > 0 {
		g.t.Fatalf("%d bytes too many", len(rest))
	}
	return r
}

var ids atomic.Int64

func newID() string { return fmt.Sprintf("ex_%d", ids.Add(1)) }

// endMs is how long a command of a test may take on a machine whose disk is busy; one that takes longer hangs.
const endMs = 120_000

// run starts a shell line and waits for its end.
func (g *guest) run(command string) result {
	g.t.Helper()
	return g.exec(newID(), object{"command": command})
}

// exec starts something and waits for its end, whatever else its view asks for.
func (g *guest) exec(id string, req object) result {
	g.t.Helper()
	view, _ := req["view"].(object)
	if view == nil {
		view = object{}
	}
	view["wait_ms"] = endMs
	req["view"] = view
	return g.ended(g.view("/v1/execs/"+id, req))
}

// ended refuses what was left running: the test would go on with half of what the command was to do.
func (g *guest) ended(r result) result {
	g.t.Helper()
	if r.str("status") == "running" {
		g.t.Fatalf("still running after %d s: %v", endMs/1000, r.object)
	}
	return r
}

// start starts something and returns when its first output is there.
func (g *guest) start(req object) string {
	g.t.Helper()
	id := newID()
	req["view"] = object{"wait_ms": endMs, "until": "output"}
	r := g.view("/v1/execs/"+id, req)
	if r.str("status") != "running" || len(r.segments) == 0 {
		g.t.Fatalf("ended at once or silent: %v %v", r.object, r.out)
	}
	return id
}

func (g *guest) wait(id string) result {
	g.t.Helper()
	return g.ended(g.view("/v1/execs/"+id+"/view", object{"wait_ms": endMs}))
}

func (g *guest) exitCode() int {
	g.t.Helper()
	select {
	case <-g.exited:
		return g.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		g.t.Fatal("the guest did not exit")
		return -1
	}
}

// processes counts live processes of the sandbox's uid.
func (g *guest) processes() (n int) {
	g.t.Helper()
	for _, state := range g.states() {
		if state[0] != 'Z' {
			n++
		}
	}
	return n
}

// states are those of all processes of the sandbox's uid, as ps names them.
func (g *guest) states() []string {
	g.t.Helper()
	out, err := exec.Command("ps", "-U", strconv.Itoa(g.uid), "-o", "stat=").Output()
	var none *exec.ExitError
	if err != nil && !errors.As(err, &none) {
		g.t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// recorded are the facts on stdout so far.
func (g *guest) recorded() []object {
	text, err := os.ReadFile(g.facts)
	if err != nil {
		g.t.Fatal(err)
	}
	var list []object
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var fact object
		if err := json.Unmarshal([]byte(line), &fact); err != nil {
			g.t.Fatalf("%v in line %q", err, line)
		}
		list = append(list, fact)
	}
	return list
}

func kinds(facts []object) string {
	var list []string
	for _, f := range facts {
		list = append(list, f["kind"].(string))
	}
	return strings.Join(list, " ")
}

func list(v any) []object {
	var out []object
	for _, item := range v.([]any) {
		out = append(out, item.(object))
	}
	return out
}
