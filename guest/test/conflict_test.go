package test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOfWritersOverTheSameStateOneWins(t *testing.T) {
	g := serve(t)
	const rounds, writers = 300, 6
	etag := g.wrote(file{"shared", "first", nil})[0]["etag"]
	for round := range rounds {
		var wins atomic.Int32
		var all sync.WaitGroup
		var next sync.Map
		for writer := range writers {
			all.Add(1)
			go func() {
				defer all.Done()
				content := fmt.Sprintf("round %d writer %d", round, writer)
				status, out := g.write(file{"shared", content, object{"if_match": etag}})
				if status == 200 {
					wins.Add(1)
					next.Store("etag", out["files"].([]any)[0].(map[string]any)["etag"])
				} else if status != 409 {
					t.Errorf("%d %v", status, out)
				}
			}()
		}
		all.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d: %d writers were told that they replaced the same state", round, wins.Load())
		}
		etag, _ = next.Load("etag")
	}
}
