package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func (g *guest) follow(id string) *http.Response {
	g.t.Helper()
	res, err := g.client.Get("http://guest/v1/execs/" + id + "/stream")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestReaderThatKeepsUpGetsEveryByte(t *testing.T) {
	g := serve(t)
	// A machine that stands still for longer than the writer waits makes a gap by right, but not time and again.
	var gap string
	for range 5 {
		if gap = g.keepUp(); gap == "" {
			return
		}
	}
	t.Error(gap)
}

// keepUp reads two fast streams to their ends and tells of the first gap in what it got.
func (g *guest) keepUp() (gap string) {
	g.t.Helper()
	const size = 96 << 20
	// stderr comes as fast, so neither stream may starve the other. It begins once it is followed: what came before is the spool's.
	const both = "head -c 100663296 /dev/zero >&2 & head -c 100663296 /dev/zero; wait"
	id := g.start(object{"command": "printf .; until rm followed 2>/dev/null; do sleep 0.01; done; " + both})
	res := g.follow(id)
	g.run("touch followed")
	var next [3]int64
	for {
		kind, offset, data := readFrame(g.t, res)
		if kind == 3 {
			break
		}
		if int64(offset) != next[kind] && gap == "" {
			gap = fmt.Sprintf("stream %d jumps from %d to %d", kind, next[kind], offset)
		}
		next[kind] = int64(offset) + int64(len(data))
	}
	if next != [3]int64{0, 1 + size, size} {
		g.t.Fatalf("%v", next)
	}
	return gap
}

func TestReaderThatStandsStillHoldsNobodyUp(t *testing.T) {
	g := serve(t)
	id := g.start(object{"command": "head -c 67108864 /dev/zero; echo end"})
	g.follow(id) // and never reads
	begun := time.Now()
	if r := g.run("echo neighbour"); r.out["stdout"] != "neighbour\n" {
		t.Errorf("%q", r.out)
	}
	if r := g.wait(id); r.str("status") != "exited" || r.num("stdout_bytes") != 67108868 {
		t.Errorf("%v", r.object)
	}
	// The one who wrote waited once for the reader, not for each of a thousand pieces.
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
