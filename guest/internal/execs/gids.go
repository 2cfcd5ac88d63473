package execs

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Gids hands out the supplementary groups that mark trees.
type Gids struct {
	Low, High int // inclusive, exclusive
	mu        sync.Mutex
	next      int
}

// NewGids picks a range this user namespace maps: far above ids anybody uses, or, where only 16 bits are mapped, above
// the uids of sandboxes.
func NewGids() *Gids {
	g := &Gids{Low: 1_000_000, High: 1 << 30}
	text, err := os.ReadFile("/proc/self/gid_map")
	if err == nil && !mapped(string(text), g.Low, g.High) {
		g.Low, g.High = 60_000, 65_000
	}
	// Guests that share a pid namespace, as in tests, must not take each other's trees for their own.
	g.next = g.Low + rand.IntN(g.High-g.Low)
	return g
}

func mapped(gidMap string, low, high int) bool {
	for _, line := range strings.Split(gidMap, "\n") {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		from, _ := strconv.Atoi(fields[0])
		count, _ := strconv.Atoi(fields[2])
		if from <= low && high <= from+count {
			return true
		}
	}
	return false
}

// Next returns a group no other remembered exec has, as the range is much larger than what is remembered.
func (g *Gids) Next() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	gid := g.next
	if g.next++; g.next == g.High {
		g.next = g.Low
	}
	return gid
}
