package test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExecRunsAsItsOwnUserInTheWorkdir(t *testing.T) {
	g := serve(t)
	r := g.run(`id -u; pwd; echo "$HOME $USER $LANG"; echo oops >&2; exit 7`)
	want := fmt.Sprintf("%d\n%s/work\n%s/work sandbox C.UTF-8\n", g.uid, g.dir, g.dir)
	if r.out["stdout"] != want || r.out["stderr"] != "oops\n" || r.num("exit_code") != 7 || r.str("status") != "exited" || r.str("ended_by") != "self" {
		t.Errorf("%v %q", r.object, r.out)
	}
	if env := g.run("env; cat /proc/self/status").out["stdout"]; strings.Contains(env, "do-not-inherit") || !strings.Contains(env, "CapEff:\t0000000000000000") {
		t.Errorf("environment or capabilities leak:\n%s", env)
	}
	if r := g.run("echo again > /dev/stdout; umask"); r.out["stdout"] != "again\n0022\n" {
		t.Errorf("%q", r.out)
	}
}

func TestSameIdStartsOnce(t *testing.T) {
	g := serve(t)
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			r := g.exec("once", object{"command": "echo x >> count; echo done"})
			if r.out["stdout"] != "done\n" {
				t.Errorf("%q", r.out)
			}
		}()
	}
	all.Wait()
	if got := g.run("cat count").out["stdout"]; got != "x\n" {
		t.Errorf("started %d times", strings.Count(got, "x"))
	}
}

func TestWhatCannotStart(t *testing.T) {
	g := serve(t)
	for name, c := range map[string]struct {
		req   object
		errno string
		kind  any
	}{
		"no program":    {object{"argv": []string{"no-such-program"}}, "ENOENT", nil},
		"no file":       {object{"argv": []string{"/no/such/file"}}, "ENOENT", nil},
		"no cwd":        {object{"command": "true", "cwd": "missing"}, "ENOENT", "cwd"},
		"cwd is a file": {object{"command": "true", "cwd": "/etc/passwd"}, "ENOTDIR", "cwd"},
		"not a program": {object{"argv": []string{"/etc/passwd"}}, "EACCES", nil},
	} {
		out := g.refused("EXEC_NOT_STARTED", "POST", "/v1/execs/"+newID(), c.req)
		if out["errno"] != c.errno || out["kind"] != c.kind {
			t.Errorf("%s: %v", name, out)
		}
	}
	for _, bad := range []object{{}, {"command": "a", "argv": []string{"b"}}, {"command": "a\x00b"}, {"argv": []string{""}},
		{"command": "a", "timeout_ms": 0}, {"command": "a", "env": object{"A=B": "c"}}, {"command": "a", "meta": strings.Repeat("m", 3000)},
		{"command": "a", "tty": object{"rows": 0, "cols": 1}}, {"command": "a", "view": object{"until": "never"}}} {
		g.refused("INVALID_ARGUMENT", "POST", "/v1/execs/"+newID(), bad)
	}
	g.refused("INVALID_ARGUMENT", "POST", "/v1/execs/bad.id", object{"command": "true"})
	g.refused("EXEC_NOT_FOUND", "POST", "/v1/execs/unknown/view", object{})
	if r := g.run("printf 'echo from $0 $1' > script; chmod +x script"); r.num("exit_code") != 0 {
		t.Fatal(r.out)
	}
	r := g.exec(newID(), object{"argv": []string{"./script", "arg"}})
	if r.out["stdout"] != "from ./script arg\n" {
		t.Errorf("a script without an interpreter line: %q", r.out)
	}
	if facts := list(g.ok("GET", "/v1/facts", nil)["facts"]); strings.Count(kinds(facts), "exec.started") != 2 {
		t.Errorf("what did not start left facts: %s", kinds(facts))
	}
}

func TestStdin(t *testing.T) {
	g := serve(t)
	r := g.exec(newID(), object{"command": "cat", "stdin": "hello"})
	if r.out["stdout"] != "hello" {
		t.Errorf("%q", r.out)
	}
	if r := g.run("cat; echo end"); r.out["stdout"] != "end\n" {
		t.Errorf("stdin without input did not end: %q", r.out)
	}
	id := newID()
	g.view("/v1/execs/"+id, object{"command": "wc -c", "stdin": "abc", "keep_stdin": true})
	const size = 3 << 20
	status, data := g.raw("POST", "/v1/execs/"+id+"/stdin", bytes.NewReader(bytes.Repeat([]byte("z"), size)))
	if status != 200 || !strings.Contains(string(data), fmt.Sprint(size)) {
		t.Fatalf("%d %s", status, data)
	}
	g.raw("POST", "/v1/execs/"+id+"/stdin?eof=1", nil)
	if got := strings.TrimSpace(g.wait(id).out["stdout"]); got != fmt.Sprint(size+3) {
		t.Errorf("wc says %s", got)
	}
	g.refused("EXEC_ENDED", "POST", "/v1/execs/"+id+"/stdin", nil)
}

func TestTerminal(t *testing.T) {
	g := serve(t)
	id := g.start(object{"command": "stty size; tty; read line; stty size; echo got $line", "tty": object{"rows": 33, "cols": 101}})
	g.ok("POST", "/v1/execs/"+id+"/resize", object{"rows": 40, "cols": 120})
	g.raw("POST", "/v1/execs/"+id+"/stdin", strings.NewReader("word\n"))
	out := g.wait(id).out["stdout"]
	for _, want := range []string{"33 101", "/dev/pts/", "40 120", "got word"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	g.refused("INVALID_ARGUMENT", "POST", "/v1/execs/"+g.start(object{"command": "echo; sleep 60"})+"/resize", object{"rows": 1, "cols": 1})
}

func TestEndOfMainProcessIsTheEnd(t *testing.T) {
	g := serve(t)
	begin := time.Now()
	r := g.run("sleep 60 & echo started")
	if took := time.Since(begin); took > 20*time.Second || r.num("left_running") != 1 || r.out["stdout"] != "started\n" {
		t.Errorf("%v after %v", r.object, took)
	}
	// What the child says later is still kept.
	r = g.run("mkfifo fifo; (read x < fifo; echo late) & true")
	g.run("echo > fifo")
	eventually(t, "late output is spooled", func() bool { return g.wait(r.str("exec_id")).out["stdout"] == "late\n" })
}

func TestStreamFollowsAndTellsOffsets(t *testing.T) {
	g := serve(t)
	id := newID()
	g.view("/v1/execs/"+id, object{"command": "for i in 1 2 3; do echo out$i; echo err$i >&2; done; head -c 300000 /dev/zero"})
	res, err := g.client.Get("http://guest/v1/execs/" + id + "/stream?stdout_offset=5")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var streams [3]bytes.Buffer
	next := [3]uint64{1: 5}
	for {
		kind, offset, data := readFrame(t, res)
		if kind == 3 {
			var info object
			if json.Unmarshal(data, &info) != nil || info["status"] != "exited" {
				t.Errorf("end frame %s", data)
			}
			break
		}
		if offset != next[kind] {
			t.Errorf("stream %d jumps from %d to %d", kind, next[kind], offset)
		}
		next[kind] = offset + uint64(len(data))
		streams[kind].Write(data)
	}
	if out := streams[1].String(); !strings.HasPrefix(out, "out2\nout3\n\x00") || len(out) != 10+300000 || streams[2].String() != "err1\nerr2\nerr3\n" {
		t.Errorf("%d bytes of stdout, stderr %q", len(out), streams[2].String())
	}
}

func readFrame(t testing.TB, res *http.Response) (kind byte, offset uint64, data []byte) {
	t.Helper()
	var head struct {
		Kind   byte
		Offset uint64
		Length uint32
	}
	if err := binary.Read(res.Body, binary.BigEndian, &head); err != nil {
		t.Fatal(err)
	}
	data = make([]byte, head.Length)
	if err := binary.Read(res.Body, binary.BigEndian, data); err != nil {
		t.Fatal(err)
	}
	return head.Kind, head.Offset, data
}

func TestEndlessOutputIsBoundedAndNeverBlocksTheProcess(t *testing.T) {
	g := serve(t)
	r := g.exec(newID(), object{"command": "head -c 50000000 /dev/zero; echo the end", "view": object{"max_bytes": 3000}})
	kept, _ := json.Marshal(r.object["stdout_kept"])
	if r.num("stdout_bytes") != 50000008 || !strings.HasPrefix(string(kept), "[[0,1048576],[") || !strings.HasSuffix(r.out["stdout"], "the end\n") {
		t.Errorf("%v", r.object)
	}
	if omitted := r.num("omitted_bytes"); omitted < 50000008-4<<20 || omitted > 50000008-3<<20 {
		t.Errorf("omitted %d", omitted)
	}
	if len(r.out["stdout"]) > 3000 || len(r.segments) != 2 {
		t.Errorf("%d bytes in %d segments", len(r.out["stdout"]), len(r.segments))
	}
	if text := kinds(list(g.ok("GET", "/v1/facts", nil)["facts"])); strings.Count(text, "limit") != 1 {
		t.Errorf("facts: %s", text)
	}
}

// outputLimits counts how often it was told of each exec that its output is no longer kept whole.
func (g *guest) outputLimits() map[string]int {
	told := map[string]int{}
	for _, f := range g.recorded() {
		if f["kind"] == "limit" && f["limit"] == "output" {
			told[f["exec_id"].(string)]++
		}
	}
	return told
}

func TestFullOutputIsToldOnceOfBothStreams(t *testing.T) {
	g := serve(t)
	id := g.run("head -c 6000000 /dev/zero; head -c 6000000 /dev/zero >&2").str("exec_id")
	if told := g.outputLimits(); len(told) != 1 || told[id] != 1 {
		t.Errorf("told %v", told)
	}
}

func TestOutputThatMakesRoomForOthersIsTold(t *testing.T) {
	g := serve(t)
	const size = 3_900_000 // kept whole where there is room
	ended := g.run(fmt.Sprintf("head -c %d /dev/zero", size)).str("exec_id")
	running := map[string]bool{}
	for range 12 {
		id := newID()
		running[id] = true
		g.view("/v1/execs/"+id, object{"command": fmt.Sprintf("head -c %d /dev/zero; read line", size), "keep_stdin": true})
	}
	look := func(id string) result { return g.view("/v1/execs/"+id+"/view", object{}) }
	for id := range running {
		eventually(t, "all is written", func() bool { return look(id).num("stdout_bytes") == size })
	}
	some := 0
	for id := range running {
		if look(id).num("omitted_bytes") > 0 {
			some++
			eventually(t, "it is told while it runs", func() bool { return g.outputLimits()[id] == 1 })
		}
	}
	for id := range running {
		g.ok("POST", "/v1/execs/"+id+"/kill", object{"signal": "KILL"})
	}
	// What is told comes before the end, whichever exec took the memory.
	told := map[string]int{}
	for _, f := range g.recorded() {
		id, _ := f["exec_id"].(string)
		switch {
		case f["limit"] == "output":
			told[id]++
		case f["kind"] == "exec.ended" && (f["omitted_bytes"].(float64) > 0) != (told[id] == 1):
			t.Errorf("%s lost %v bytes, told %d times", id, f["omitted_bytes"], told[id])
		}
	}
	if r := look(ended); some == 0 || r.num("omitted_bytes") != size || told[ended] != 0 {
		t.Errorf("%d lost some; %d bytes of the ended one, told %d times", some, r.num("omitted_bytes"), told[ended])
	}
}

func TestUnusedShareOfOneStreamGoesToTheOther(t *testing.T) {
	g := serve(t)
	r := g.exec(newID(), object{"command": "seq 1000; echo short >&2", "view": object{"max_bytes": 2000}})
	if n := len(r.out["stdout"]); n < 1900 || n > 1994 || r.out["stderr"] != "short\n" {
		t.Errorf("stdout %d bytes, stderr %q", n, r.out["stderr"])
	}
}

func TestOnlySoManyEndedExecsAreRemembered(t *testing.T) {
	g := serve(t)
	first := g.run("true").str("exec_id")
	for range 128 {
		g.run("true")
	}
	g.refused("EXEC_NOT_FOUND", "POST", "/v1/execs/"+first+"/view", object{})
	if n := len(list(g.ok("GET", "/v1/execs", nil)["execs"])); n != 128 {
		t.Errorf("%d execs are remembered", n)
	}
}
