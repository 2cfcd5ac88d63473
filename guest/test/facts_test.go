package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestFactsAreNumberedKeptAndAwaited(t *testing.T) {
	g := serve(t)
	type page = object
	answers := make(chan page, 1)
	go func() { answers <- g.ok("GET", "/v1/facts?after=1&wait_ms=60000", nil) }()
	r := g.exec(newID(), object{"command": "true", "view": object{"facts_after": 0}})
	first := list((<-answers)["facts"])
	if len(first) == 0 || first[0]["seq"] != 2.0 || first[0]["kind"] != "exec.started" {
		t.Errorf("%v", first)
	}
	if got := kinds(list(r.facts["facts"])); got != "boot exec.started exec.ended" || r.facts["next"] != 4.0 {
		t.Errorf("%s next %v", got, r.facts["next"])
	}
	begin := time.Now()
	if p := g.ok("GET", "/v1/facts?after=3&wait_ms=50", nil); len(list(p["facts"])) != 0 || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("%v", p)
	}
	for range 600 {
		g.exec(newID(), object{"argv": []string{"/bin/true"}})
	}
	p := g.ok("GET", "/v1/facts?after=0", nil)
	facts := list(p["facts"])
	if oldest := p["oldest"].(float64); oldest != p["next"].(float64)-1024 || facts[0]["seq"] != oldest || len(facts) != 256 {
		t.Errorf("oldest %v next %v first %v, %d facts", p["oldest"], p["next"], facts[0]["seq"], len(facts))
	}
}

// A time-out of 1 ms is over at about the moment a command has started: now before it, now behind.
func TestNothingIsToldOfACommandBeforeItsStart(t *testing.T) {
	g := serve(t)
	for range 200 {
		g.ended(g.view("/v1/execs/"+newID(), object{"command": "sleep 300", "timeout_ms": 1, "view": object{"wait_ms": endMs}}))
	}
	started, limits := map[any]bool{}, 0
	for _, f := range g.recorded() {
		switch id := f["exec_id"]; {
		case f["kind"] == "exec.started":
			started[id] = true
		case f["limit"] == "time" && started[id]:
			limits++
		case id != nil && !started[id]:
			t.Errorf("before the start: %v", f)
		}
	}
	if limits != 200 {
		t.Errorf("%d of 200 time-outs were told behind the start", limits)
	}
}

func TestSecretsStayOutOfFacts(t *testing.T) {
	g := serve(t)
	out := g.ok("PATCH", "/v1/env", object{"set": object{"TOKEN": "s3cr3t-value", "LONG": "s3cr3t-value-and-more", "N": "1"}})
	if keys, _ := json.Marshal(out["keys"]); string(keys) != `["LONG","N","TOKEN"]` {
		t.Errorf("%s", keys)
	}
	r := g.exec(newID(), object{
		"command": "echo $TOKEN $MINE s3cr3t-value-and-more s3cr3t-value own-secret 1 " + strings.Repeat("é", 300), "env": object{"MINE": "own-secret"},
		"view": object{"facts_after": 0},
	})
	if !strings.HasPrefix(r.out["stdout"], "s3cr3t-value own-secret") {
		t.Errorf("%q", r.out)
	}
	text, _ := json.Marshal(r.facts)
	command := list(r.facts["facts"])[1]["command"].(string)
	if bytes.Contains(text, []byte("s3cr3t")) || bytes.Contains(text, []byte("own-secret")) {
		t.Errorf("a secret is in %s", text)
	}
	if !strings.HasPrefix(command, "echo $TOKEN $MINE *** *** *** 1 é") || len([]rune(command)) != 256 {
		t.Errorf("%d characters: %s", len([]rune(command)), command)
	}
	g.ok("PATCH", "/v1/env", object{"unset": []string{"TOKEN", "LONG"}})
	if out := g.run("echo [$TOKEN] $N").out["stdout"]; out != "[] 1\n" {
		t.Errorf("%q", out)
	}
	g.refused("LIMIT_EXCEEDED", "PATCH", "/v1/env", object{"set": object{"BIG": strings.Repeat("x", 200_000)}})
	g.refused("INVALID_ARGUMENT", "PATCH", "/v1/env", object{"set": object{"A=B": "x"}})
}

func TestSecretsStayOutOfWhereFactsSayACommandRan(t *testing.T) {
	g := serve(t)
	g.run("mkdir -p a/s3cr3t-value/own-secret")
	g.ok("PATCH", "/v1/env", object{"set": object{"TOKEN": "s3cr3t-value", "PYTHONPATH": g.dir + "/work"}})
	r := g.exec(newID(), object{
		"command": "pwd", "cwd": "a/s3cr3t-value/own-secret", "env": object{"MINE": "own-secret"}, "view": object{"facts_after": 0},
	})
	cwd := strings.TrimSpace(r.out["stdout"])
	told := list(r.facts["facts"])[3]["cwd"]
	if before, ok := strings.CutSuffix(cwd, "s3cr3t-value/own-secret"); !ok || told != before+"***/***" || r.object["cwd"] != cwd {
		t.Errorf("in %s: told %v, answered %v", cwd, told, r.object["cwd"])
	}
}

func TestStatsSayWhatTheyCannotTell(t *testing.T) {
	g := serve(t)
	g.run("true")
	s := g.ok("GET", "/v1/stats", nil)
	if s["execs"].(object)["total"] != 1.0 || s["workspace"].(object)["limit_bytes"] == nil || s["uptime_ms"].(float64) <= 0 {
		t.Errorf("%v", s)
	}
	notes, _ := json.Marshal(s["notes"])
	for _, group := range []string{"cpu", "memory", "pids"} {
		for name, value := range s[group].(object) {
			if value == nil && !strings.Contains(string(notes), group) {
				t.Errorf("%s.%s is null and no note says so: %s", group, name, notes)
			}
		}
	}
}

func TestProgramsAreTheCommandsOwn(t *testing.T) {
	g := serve(t)
	g.run(`mkdir -p .local/bin; printf '#!/bin/sh\nid -u > seen; echo ripgrep 99.1.2; sleep 300 & exec 1>&- 2>&-' > .local/bin/rg; chmod +x .local/bin/rg`)
	found := g.ok("GET", "/v1/programs", nil)["programs"].(object)
	if found["rg"] != "99.1.2" || found["bash"] == nil {
		t.Errorf("%v", found)
	}
	eventually(t, "what a program left behind is gone", func() bool { return g.processes() == 0 })
}

// A stalled upload and a stalled reader must not hold up anybody else.
func TestStalledStreamsBlockNobody(t *testing.T) {
	g := serve(t)
	for range 20 {
		r, w := io.Pipe()
		req, _ := http.NewRequest("POST", "http://guest/v1/files/write", r)
		go func() { _, _ = g.client.Do(req) }()
		if _, err := io.WriteString(w, `{"files":[{"path":"never","len":10}]}`+"\n"); err != nil {
			t.Fatal(err)
		}
		defer w.Close()
	}
	id := newID()
	g.view("/v1/execs/"+id, object{"command": "head -c 20000000 /dev/zero; echo done >&2"})
	for range 5 {
		res, err := g.client.Get("http://guest/v1/execs/" + id + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	if r := g.wait(id); r.out["stderr"] != "done\n" || r.str("status") != "exited" {
		t.Errorf("%v", r.object)
	}
}

func TestConnectBridgesStandardStreams(t *testing.T) {
	g := serve(t)
	bridge := exec.Command(program, "connect", "--run", g.dir+"/run")
	in, _ := bridge.StdinPipe()
	out, _ := bridge.StdoutPipe()
	if err := bridge.Start(); err != nil {
		t.Fatal(err)
	}
	// The connection preface and empty settings are answered with settings: a frame of type 4.
	_, _ = io.WriteString(in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	head := make([]byte, 9)
	if _, err := io.ReadFull(out, head); err != nil || head[3] != 4 {
		t.Errorf("%v %v", head, err)
	}
	in.Close()
	go func() { _, _ = io.Copy(io.Discard, out) }()
	ended := make(chan error, 1)
	go func() { ended <- bridge.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = bridge.Process.Kill()
		t.Error("it did not end with its stdin")
	}
	if out, err := exec.Command(program, "connect", "--run", "/nonexistent").CombinedOutput(); err == nil || len(out) == 0 {
		t.Error("a missing socket is not an error")
	}
}

func TestConnectWaitsForAGuestThatBoots(t *testing.T) {
	g := newGuest(t)
	if err := os.Mkdir(g.dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	bridge := exec.Command(program, "connect", "--run", g.dir+"/run")
	in, _ := bridge.StdinPipe()
	out, _ := bridge.StdoutPipe()
	if err := bridge.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bridge.Process.Kill() })
	// Long enough to find nothing there; on a host so slow that it has not looked by then, there is nothing to see.
	time.Sleep(100 * time.Millisecond)
	g.launch(os.Stderr)
	_, _ = io.WriteString(in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	head := make([]byte, 9)
	if _, err := io.ReadFull(out, head); err != nil || head[3] != 4 {
		t.Errorf("%v %v", head, err)
	}
	in.Close()
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := bridge.Wait(); err != nil {
		t.Error(err)
	}
}

func TestChangedFilesAreFactsAndFitTheFlightRecorder(t *testing.T) {
	g := serve(t)
	var files []object
	for i := range 300 {
		files = append(files, object{"path": fmt.Sprintf("%03d-%s", i, strings.Repeat("é", 40)), "len": 0})
	}
	meta := object{"client": strings.Repeat("c", 500)}
	header, _ := json.Marshal(object{"files": files, "tell": object{"id": "ch_1", "meta": meta, "facts_after": 1}})
	_, answer := g.raw("POST", "/v1/files/write", bytes.NewReader(append(header, '\n')))
	var out object
	if err := json.Unmarshal(answer, &out); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	told := list(out["facts"].(object)["facts"])[0]
	kept := len(list(told["changes"]))
	if told["kind"] != "files" || told["change_id"] != "ch_1" || kept < 80 || kept > 200 || told["omitted"] != float64(300-kept) {
		t.Errorf("%d of %v", kept, told["omitted"])
	}
	recorded := g.recorded()[1]
	fewer := len(list(recorded["changes"]))
	if fewer < 20 || fewer >= kept || recorded["omitted"] != float64(300-fewer) || recorded["cut"] != true {
		t.Errorf("%d, %v", fewer, recorded["omitted"])
	}
	if got, _ := recorded["meta"].(object); got["client"] != meta["client"] {
		t.Errorf("%v", recorded["meta"])
	}
	for _, tell := range []object{{"id": ""}, {"id": strings.Repeat("x", 65)}, {"id": "ch", "op": "delete"}, {"id": "ch", "meta": strings.Repeat("m", 2050)}} {
		g.refused("INVALID_ARGUMENT", "POST", "/v1/files/manage", object{"op": "mkdir", "path": "no", "tell": tell})
	}
	g.refused("FILE_NOT_FOUND", "GET", "/v1/files/stat?path=no", nil)
}

func TestChangesThatFailedMidwayAreFacts(t *testing.T) {
	g := serve(t)
	g.sh("mkdir -p d/ro same; touch d/a d/ro/x same/f; chmod 555 d/ro")
	tell := object{"id": "ch_1"}
	g.refused("PERMISSION_DENIED", "POST", "/v1/files/manage", object{"op": "delete", "path": "d", "recursive": true, "tell": tell})
	g.refused("PERMISSION_DENIED", "POST", "/v1/files/manage", object{"op": "delete", "path": "d/ro", "recursive": true, "tell": tell})
	g.manage(object{"op": "move", "path": "same/f", "dest": "./same//f", "tell": tell})
	var told []string
	for _, fact := range g.recorded() {
		if fact["kind"] == "files" {
			for _, change := range list(fact["changes"]) {
				told = append(told, change["op"].(string)+" "+change["path"].(string))
			}
		}
	}
	if got := strings.Join(told, ", "); got != "delete d, move ./same//f" || g.sh("ls d same") != "d:\nro\n\nsame:\nf\n" {
		t.Errorf("%q, %q", got, g.sh("ls d same"))
	}
}

func TestAPageOfFactsIsBounded(t *testing.T) {
	g := serve(t)
	var changed []object
	for i := range 200 {
		changed = append(changed, object{"path": fmt.Sprintf("%03d%s", i, strings.Repeat("x", 30)), "len": 0})
	}
	header, _ := json.Marshal(object{"files": changed, "tell": object{"id": "ch_1", "meta": strings.Repeat("m", 2000)}})
	for range 60 {
		if status, answer := g.raw("POST", "/v1/files/write", bytes.NewReader(append(header, '\n'))); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	seen, pages := 0, 0
	for after := 0; ; pages++ {
		_, text := g.raw("GET", fmt.Sprintf("/v1/facts?after=%d", after), nil)
		var page object
		if err := json.Unmarshal(text, &page); err != nil || len(text) > 600<<10 {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		facts := list(page["facts"])
		if len(facts) == 0 {
			break
		}
		seen, after = seen+len(facts), int(facts[len(facts)-1]["seq"].(float64))
	}
	if seen != 61 || pages < 2 {
		t.Errorf("%d facts on %d pages", seen, pages)
	}
}
