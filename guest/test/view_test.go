package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// header is a view's with what does not belong to the exec. A machine that stands still uses up the time of a look: then it looks again.
func (g *guest) look(id string, view object) (header object, r result) {
	g.t.Helper()
	var rest []byte
	for range 5 {
		if header, rest = g.framed("POST", "/v1/execs/"+id+"/view", view); header["match_partial"] == nil {
			break
		}
	}
	return header, g.decoded(header, rest)
}

func (g *guest) feed(id, text string) {
	g.t.Helper()
	if status, data := g.raw("POST", "/v1/execs/"+id+"/stdin", strings.NewReader(text)); status != 200 {
		g.t.Fatalf("%d %s", status, data)
	}
}

func TestUntilMatch(t *testing.T) {
	g := serve(t)
	id := newID()
	header, _ := g.framed("POST", "/v1/execs/"+id, object{"command": "echo booting; cat; echo oops >&2", "keep_stdin": true,
		"view": object{"wait_ms": endMs, "until_match": "^boot"}})
	if fmt.Sprint(header["matched"]) != "map[line:booting offset:0 stream:stdout]" {
		t.Errorf("%v", header)
	}
	await := func(view object) chan object {
		view["wait_ms"] = endMs
		done := make(chan object, 1)
		go func() {
			header, _ := g.framed("POST", "/v1/execs/"+id+"/view", view)
			done <- header
		}()
		return done
	}
	waiting := await(object{"until_match": "ready[>$]$", "stdout_offset": 8})
	for _, part := range []string{"rea", "dy\n", "x ready> \n", "not ", "rea", "dy"} {
		g.feed(id, part)
		time.Sleep(5 * time.Millisecond)
	}
	select {
	case header := <-waiting:
		t.Fatalf("%v", header)
	case <-time.After(100 * time.Millisecond):
	}
	g.feed(id, ">") // a prompt has no newline
	if header := <-waiting; fmt.Sprint(header["matched"]) != "map[line:not ready> offset:24 stream:stdout]" {
		t.Errorf("%v", header["matched"])
	}
	// What is there already matches without a wait; what lies before the offset does not.
	if header, _ := g.framed("POST", "/v1/execs/"+id+"/view", object{"until_match": "ready"}); header["matched"].(object)["offset"] != 8.0 {
		t.Errorf("%v", header["matched"])
	}
	begin := time.Now()
	if header, _ := g.framed("POST", "/v1/execs/"+id+"/view", object{"until_match": "boot", "stdout_offset": 8, "wait_ms": 200}); header["matched"] != nil || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("%v after %v", header["matched"], time.Since(begin))
	}
	waiting = await(object{"until_match": "oops"})
	g.raw("POST", "/v1/execs/"+id+"/stdin?eof=1", nil)
	if header := <-waiting; fmt.Sprint(header["matched"]) != "map[line:oops offset:0 stream:stderr]" {
		t.Errorf("%v", header["matched"])
	}
	begin = time.Now()
	if header := <-await(object{"until_match": "never"}); header["matched"] != nil || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v", header, time.Since(begin))
	}
	for _, bad := range []object{{"until_match": "("}, {"match": "("}, {"until_match": strings.Repeat("x", 1025)}, {"tail_lines": 0}, {"match": "((x{30}){30}){30}"}} {
		g.refused("INVALID_ARGUMENT", "POST", "/v1/execs/"+id+"/view", bad)
		g.refused("INVALID_ARGUMENT", "POST", "/v1/execs/never-started", object{"command": "true", "view": bad})
	}
	g.refused("EXEC_NOT_FOUND", "POST", "/v1/execs/never-started/view", nil)
}

func TestUntilMatchAtATerminal(t *testing.T) {
	g := serve(t)
	header, _ := g.framed("POST", "/v1/execs/"+newID(), object{"command": `printf 'name? '; read x; printf '\033[1mhello %s\033[0m\n' $x; sleep 60`, "tty": object{"rows": 24, "cols": 80},
		"view": object{"wait_ms": endMs, "until_match": `\? $`}})
	if m, _ := header["matched"].(object); m["line"] != "name? " {
		t.Fatalf("%v", header)
	}
	id := header["exec"].(object)["exec_id"].(string)
	g.feed(id, "me\n")
	header, _ = g.framed("POST", "/v1/execs/"+id+"/view", object{"wait_ms": endMs, "until_match": `^name\? me$`})
	if m, _ := header["matched"].(object); m["line"] != "name? me" {
		t.Errorf("%v", header["matched"])
	}
}

// A process that writes without end is neither held up by waiters nor do they take all of the guest.
func TestFloodDoesNotFeelItsWaiters(t *testing.T) {
	g := serve(t)
	const flood = "yes 'a line of a flood that never ends early' | head -n 10000000; echo done"
	spent := func(r result) time.Duration { return time.Duration(r.num("duration_ms")) * time.Millisecond }
	alone := spent(g.run(flood))
	inTime(t, 4*alone+time.Second, func() time.Duration {
		id := newID()
		g.view("/v1/execs/"+id, object{"command": flood})
		done := make(chan object, 4)
		for i := range 4 {
			go func() {
				header, _ := g.framed("POST", "/v1/execs/"+id+"/view", object{"wait_ms": endMs, "until_match": []string{"^done$", "(?i)DONE$", "^do[n]e", "^d.n.$"}[i]})
				done <- header
			}()
		}
		begin := time.Now()
		g.ok("GET", "/v1/health", nil)
		if took := time.Since(begin); took > limit(time.Second) {
			t.Errorf("health took %v", took)
		}
		for range 4 {
			header := <-done
			if m, _ := header["matched"].(object); m["line"] != "done" {
				t.Fatalf("%v", header)
			}
		}
		with := spent(g.wait(id))
		t.Logf("400 MB alone %v, with four waiters %v", alone, with)
		return with
	})
	// A prompt that never ends its line, a byte at a time.
	id := newID()
	g.view("/v1/execs/"+id, object{"command": `python3 -c "
import sys, time
for i in range(3000):
    sys.stdout.write('.' * 100); sys.stdout.flush()
sys.stdout.write('>>> '); sys.stdout.flush(); time.sleep(60)"`})
	header, _ := g.framed("POST", "/v1/execs/"+id+"/view", object{"wait_ms": endMs, "until_match": `>>> $`})
	if m, _ := header["matched"].(object); m["offset"] != 0.0 || !strings.HasSuffix(fmt.Sprint(m["line"]), ".>>> ") {
		t.Errorf("%v", header["matched"])
	}
}

func TestTailLinesAndMatch(t *testing.T) {
	g := serve(t)
	id := g.run(`seq 20000; echo err1 >&2; echo err2 >&2; head -c 100000 /dev/zero | tr '\0' L; echo; echo last`).str("exec_id")
	if _, r := g.look(id, object{"tail_lines": 1}); r.out["stdout"] != "last\n" || r.out["stderr"] != "err2\n" || len(r.segments) != 2 {
		t.Errorf("%v", r.segments)
	}
	_, r := g.look(id, object{"tail_lines": 3, "max_bytes": 1000})
	if n := len(r.out["stdout"]); n > 990 || n < 400 || !strings.HasSuffix(r.out["stdout"], "LLL\nlast\n") || r.out["stderr"] != "err1\nerr2\n" {
		t.Errorf("%d %v %q", n, r.segments, r.out["stderr"])
	}
	if _, r := g.look(id, object{"tail_lines": 3, "max_bytes": 200000}); !strings.HasPrefix(r.out["stdout"], "20000\nLLL") {
		t.Errorf("%v", r.segments)
	}
	header, r := g.look(id, object{"match": "^(1|3|500|err1|la.*)$"})
	var shown []string
	for _, s := range r.segments {
		shown = append(shown, fmt.Sprint(s["stream"], s["from"], ":", s["len"]))
	}
	if header["match_total"] != 5.0 || header["match_partial"] != nil || !strings.HasPrefix(r.out["stdout"], "1\n2\n3\n4\n499\n500\n501\nLLLL") || !strings.HasSuffix(r.out["stdout"], "LL\nlast\n") || r.out["stderr"] != "err1\nerr2\n" {
		t.Errorf("%v %v %.60q", header, shown, r.out["stdout"])
	}
	if header, r := g.look(id, object{"match": "nothing"}); header["match_total"] != 0.0 || len(r.segments) != 0 {
		t.Errorf("%v", header)
	}
	if header, r := g.look(id, object{"match": "00$|err", "max_bytes": 1 << 20}); header["match_total"] != 202.0 || len(r.segments) != 200 || r.out["stderr"] == "" {
		t.Errorf("%v, %d segments", header["match_total"], len(r.segments))
	}
	if header["match_more"] != nil {
		t.Errorf("all is shown: %v", header)
	}
	if header, r := g.look(id, object{"match": "^(3|500|err1)$", "max_bytes": 25}); header["match_more"] != true || r.out["stdout"] != "2\n3\n4\n" || r.out["stderr"] != "err1\nerr2\n" {
		t.Errorf("%v %q", header, r.out)
	}
	if header, r := g.look(id, object{"match": "L", "max_bytes": 100}); header["match_total"] != 1.0 || len(r.out["stdout"]) > 100 || len(r.out["stdout"]) == 0 {
		t.Errorf("%v %v", header, r.segments)
	}
	if header, r := g.look(id, object{"match": "5", "tail_lines": 5, "stdout_offset": 30}); header["match_total"] != 0.0 || len(r.segments) != 0 {
		t.Errorf("%v", header)
	}
	begin := time.Now()
	header, _ = g.framed("POST", "/v1/execs/"+id+"/view", object{"match": "(a?){200}(L?){200}[cd]"})
	if took := time.Since(begin); took > limit(8*time.Second) {
		t.Errorf("took %v: %v", took, header)
	}
}
