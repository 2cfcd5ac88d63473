package watch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/stats"
)

// kernel is a cgroup whose count of OOM kills a test moves, and a disk that it fills, under a watch whose ticks it makes.
type kernel struct {
	*Watch
	t      *testing.T
	file   string
	kills  int
	filled int64 // percent
	told   []string
}

func watched(t *testing.T) *kernel {
	k := &kernel{t: t, file: filepath.Join(t.TempDir(), "memory.events")}
	if err := os.WriteFile(filepath.Join(filepath.Dir(k.file), "cgroup.controllers"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k.kill(0)
	log := facts.NewLog(func(line []byte) {
		var f struct {
			Kind     string `json:"kind"`
			Limit    string `json:"limit"`
			Observed int    `json:"observed"`
			OomKills int    `json:"oom_kills"`
			ExecID   string `json:"exec_id"`
		}
		switch err := json.Unmarshal(line, &f); {
		case err == nil && f.Kind == "oom":
			k.told = append(k.told, strings.TrimSpace(fmt.Sprintln(f.OomKills, f.ExecID)))
		case err == nil && f.Limit == "workspace":
			k.told = append(k.told, strings.TrimSpace(fmt.Sprintln("full", f.Observed, f.ExecID)))
		}
	})
	cgroup := stats.OpenCgroup(filepath.Dir(k.file))
	k.Watch = New(cgroup, stats.NewTasks(cgroup, os.Getuid()), t.TempDir(), log)
	k.disk = func() (used, limit int64, ok bool) { return k.filled, 100, true }
	t.Cleanup(func() {
		if k.timer != nil {
			k.timer.Stop()
		}
	})
	return k
}

func (k *kernel) kill(processes int) {
	k.t.Helper()
	k.kills += processes
	if err := os.WriteFile(k.file, fmt.Appendf(nil, "oom %d\noom_kill %d\n", k.kills, k.kills), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) begin(ids ...string) {
	for _, id := range ids {
		k.Begin(id)
	}
}

func (k *kernel) ends(id string, killed bool, want int) {
	k.t.Helper()
	if got := k.Finish(id, killed); got != want {
		k.t.Errorf("%s: %d kills, want %d", id, got, want)
	}
}

func (k *kernel) expect(told ...string) {
	k.t.Helper()
	if !reflect.DeepEqual(k.told, told) {
		k.t.Errorf("told %q, want %q", k.told, told)
	}
}

func TestAKillIsToldOfTheExecThatEndsKilled(t *testing.T) {
	for _, seen := range []string{"at its end", "at a tick before it"} {
		t.Run(seen, func(t *testing.T) {
			k := watched(t)
			k.begin("server", "build")
			k.kill(1)
			if seen != "at its end" {
				k.tick()
			}
			k.expect()
			k.ends("build", true, 1)
			k.expect("1 build")
			k.tick()
			k.ends("server", false, 0)
			k.expect("1 build")
		})
	}
}

func TestAKillOfNobodyWhoEndedIsToldAtTheNextTick(t *testing.T) {
	k := watched(t)
	k.begin("server", "build")
	k.kill(2)
	k.tick()
	k.expect()
	k.ends("build", false, 0)
	k.tick()
	k.expect("2")
	k.kill(1)
	k.tick()
	k.expect("2", "3 server")
	k.ends("server", false, 1)
}

func TestAKillThatWasToldIsNotTakenOverLater(t *testing.T) {
	k := watched(t)
	k.begin("server", "slow", "late")
	k.kill(2)
	k.tick()
	k.tick()
	k.expect("2")
	k.ends("slow", true, 1) // its output was held open past the tick
	k.tick()
	k.ends("late", true, 0)
	k.ends("server", true, 0)
	k.expect("2")
}

func TestEachOfSeveralThatWereKilledHasItsOwn(t *testing.T) {
	k := watched(t)
	k.begin("a", "b", "server")
	k.kill(2)
	k.ends("a", true, 1)
	k.ends("b", true, 1)
	k.expect("1 a", "2 b")
}

func TestAllOfTheOneThatRunsAlone(t *testing.T) {
	k := watched(t)
	k.begin("make")
	k.kill(2)
	k.tick()
	k.expect("2 make")
	k.kill(1)
	k.ends("make", true, 3)
	k.expect("2 make", "3 make")
}

func TestAKillIsToldAtTheEndOfTheLast(t *testing.T) {
	k := watched(t)
	k.begin("a", "b")
	k.kill(1)
	k.tick()
	k.ends("a", false, 0)
	k.ends("b", false, 0)
	k.expect("1")
}

func TestAKillWhileNothingRanIsNobodys(t *testing.T) {
	k := watched(t)
	k.begin("a")
	k.ends("a", false, 0)
	k.kill(1)
	k.begin("b")
	k.ends("b", true, 0)
	k.expect("1")
}

func TestAWorkspaceThatFilledWhileNothingRanIsNobodys(t *testing.T) {
	k := watched(t)
	k.filled = 85
	k.begin("innocent")
	k.expect("full 85")
	k.ends("innocent", false, 0)
	k.begin("guilty")
	k.filled = 99
	k.ends("guilty", false, 0)
	k.expect("full 85", "full 99 guilty")
}

func TestAWorkspaceThatFileToolsFillIsNoCommands(t *testing.T) {
	k := watched(t)
	k.WhileWriting(func() { k.filled = 81 })
	k.begin("innocent")
	k.expect("full 81")
	k.WhileWriting(func() {
		k.filled = 99
		k.tick()
	})
	k.WhileWriting(func() { k.filled = 10 })
	k.expect("full 81", "full 99")
	k.WhileWriting(func() { k.filled = 82 })
	k.expect("full 81", "full 99", "full 82")
	k.filled = 99
	k.tick()
	k.expect("full 81", "full 99", "full 82", "full 99 innocent")
}
