package stats

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/facts"
)

// Sample is the answer of GET /v1/stats. What cannot be told is null and named in Notes.
type Sample struct {
	SampledAt string `json:"sampled_at"`
	UptimeMs  int64  `json:"uptime_ms"`
	CPU       struct {
		UsageMs     *int64   `json:"usage_ms"`
		ThrottledMs *int64   `json:"throttled_ms"`
		LimitCpus   *float64 `json:"limit_cpus"`
	} `json:"cpu"`
	Memory struct {
		UsedBytes  *int64 `json:"used_bytes"`
		LimitBytes *int64 `json:"limit_bytes"`
		PeakBytes  *int64 `json:"peak_bytes"`
		OomKills   *int64 `json:"oom_kills"`
	} `json:"memory"`
	Pids struct {
		Current *int64 `json:"current"`
		Limit   *int64 `json:"limit"`
	} `json:"pids"`
	Workspace struct {
		UsedBytes  *int64 `json:"used_bytes"`
		LimitBytes *int64 `json:"limit_bytes"`
	} `json:"workspace"`
	Network struct {
		RxBytes *int64 `json:"rx_bytes"`
		TxBytes *int64 `json:"tx_bytes"`
	} `json:"network"`
	IO struct {
		ReadBytes  *int64 `json:"read_bytes"`
		WriteBytes *int64 `json:"write_bytes"`
	} `json:"io"`
	Execs struct {
		Running int `json:"running"`
		Total   int `json:"total"`
	} `json:"execs"`
	Notes []string `json:"notes"`
}

// Source takes samples.
type Source struct {
	cgroup  *Cgroup
	tasks   *Tasks
	workdir string
	netdev  int
}

// NewSource prepares reading for a workdir.
func NewSource(cgroup *Cgroup, tasks *Tasks, workdir string) *Source {
	fd, err := syscall.Open("/proc/net/dev", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return &Source{cgroup: cgroup, tasks: tasks, workdir: workdir, netdev: fd}
}

// Sample reads everything now.
func (s *Source) Sample(uptime time.Duration) *Sample {
	out := &Sample{SampledAt: facts.Stamp(time.Now()), UptimeMs: uptime.Milliseconds(), Notes: []string{}}
	out.CPU.UsageMs, out.CPU.ThrottledMs, out.CPU.LimitCpus = s.cgroup.CPU()
	out.Memory.UsedBytes, out.Memory.LimitBytes, out.Memory.PeakBytes = s.cgroup.Memory()
	out.Memory.OomKills = s.cgroup.OomKills()
	out.Pids.Current, out.Pids.Limit = s.tasks.Current(), s.tasks.Limit()
	out.IO.ReadBytes, out.IO.WriteBytes = s.cgroup.IO()
	if used, limit, ok := Disk(s.workdir); ok {
		out.Workspace.UsedBytes, out.Workspace.LimitBytes = &used, &limit
	}
	out.Network.RxBytes, out.Network.TxBytes = s.network()
	out.note()
	return out
}

func (s *Sample) note() {
	for _, missing := range []struct {
		absent bool
		note   string
	}{
		{s.CPU.UsageMs == nil, "cpu: this runtime shows no cpu accounting"},
		{s.CPU.LimitCpus == nil, "cpu.limit_cpus: no limit is visible"},
		{s.Memory.UsedBytes == nil, "memory: this runtime shows no memory accounting"},
		{s.Memory.LimitBytes == nil, "memory.limit_bytes: no limit is visible"},
		{s.Memory.PeakBytes == nil, "memory.peak_bytes: this kernel does not tell it"},
		{s.Memory.OomKills == nil, "memory.oom_kills: nobody counts them"},
		{s.Pids.Current == nil, "pids: this runtime shows no process accounting"},
		{s.Pids.Limit == nil, "pids.limit: no limit is visible"},
		{s.Workspace.UsedBytes == nil, "workspace: its file system does not tell"},
		{s.Network.RxBytes == nil, "network: /proc/net/dev is not readable"},
		{s.IO.ReadBytes == nil, "io: this runtime shows no io accounting"},
	} {
		if missing.absent {
			s.Notes = append(s.Notes, missing.note)
		}
	}
}

// Disk tells how full the file system of a path is.
func Disk(path string) (used, limit int64, ok bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	size := int64(st.Bsize)
	return int64(st.Blocks-st.Bfree) * size, int64(st.Blocks) * size, true
}

func (s *Source) network() (rx, tx *int64) {
	if s.netdev < 0 {
		return nil, nil
	}
	var buf [16 << 10]byte
	n, err := syscall.Pread(s.netdev, buf[:], 0)
	if err != nil || n <= 0 {
		return nil, nil
	}
	var received, sent int64
	for line := range strings.Lines(string(buf[:n])) {
		name, counters, ok := strings.Cut(line, ":")
		fields := strings.Fields(counters)
		if !ok || len(fields) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		r, _ := strconv.ParseInt(fields[0], 10, 64)
		t, _ := strconv.ParseInt(fields[8], 10, 64)
		received, sent = received+r, sent+t
	}
	return &received, &sent
}
