package test

import (
	"fmt"
	"sync"
	"testing"
)

func TestOfWritersOverTheSameStateOneWins(t *testing.T) {
	g := serve(t)
	const rounds, writers = 300, 6
	etag := g.wrote(file{"shared", "first", nil})[0]["etag"]
	for round := range rounds {
		won := make(chan any, writers)
		var all sync.WaitGroup
		for writer := range writers {
			all.Add(1)
			go func() {
				defer all.Done()
				content := fmt.Sprintf("round %d writer %d", round, writer)
				status, out := g.write(file{"shared", content, object{"if_match": etag}})
				if status == 200 {
					won <- list(out["files"])[0]["etag"]
				} else if status != 409 {
					t.Errorf("%d %v", status, out)
				}
			}()
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d writers were told that they replaced the same state", round, len(won))
		}
		etag = <-won
	}
}
