package test

import (
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
	const size = 96 << 20
	// stderr comes as fast, so neither stream may starve the other. It begins once it is followed: what came before is the spool's.
	const both = "head -c 100663296 /dev/zero >&2 & head -c 100663296 /dev/zero; wait"
	id := g.start(object{"command": "printf .; until [ -e followed ]; do sleep 0.01; done; " + both})
	res := g.follow(id)
	g.run("touch followed")
	var next [3]int64
	for {
		kind, offset, data := readFrame(t, res)
		if kind == 3 {
			break
		}
		if int64(offset) != next[kind] {
			t.Fatalf("stream %d jumps from %d to %d", kind, next[kind], offset)
		}
		next[kind] += int64(len(data))
	}
	if next != [3]int64{0, 1 + size, size} {
		t.Errorf("%v", next)
	}
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
