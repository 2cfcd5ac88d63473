// Package stats reads what the sandbox uses from its own cgroup, /proc and the workdir's file system.
package stats

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Cgroup reads the files of the sandbox's own cgroup, version 1 or 2. Files stay open: reading again at offset 0 is a
// fifth of the cost of opening.
type Cgroup struct {
	V2    bool
	V1    bool
	files map[string]int
}

// OpenCgroup looks below root, which is /sys/fs/cgroup in a container.
func OpenCgroup(root string) *Cgroup {
	c := &Cgroup{files: map[string]int{}}
	v2 := []string{"cpu.stat", "cpu.max", "memory.current", "memory.max", "memory.peak", "memory.events", "memory.stat",
		"pids.current", "pids.max", "pids.events", "io.stat"}
	v1 := []string{"cpuacct/cpuacct.usage", "cpu/cpu.stat", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us",
		"memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.max_usage_in_bytes",
		"memory/memory.oom_control", "memory/memory.stat", "pids/pids.current", "pids/pids.max", "pids/pids.events",
		"blkio/blkio.throttle.io_service_bytes"}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		c.V2 = true
		c.open(root, v2)
		return c
	}
	c.open(root, v1)
	c.V1 = len(c.files) > 0
	return c
}

func (c *Cgroup) open(root string, names []string) {
	for _, name := range names {
		fd, err := syscall.Open(filepath.Join(root, name), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			c.files[name] = fd
		}
	}
}

// read is the text of a file, empty where it is missing.
func (c *Cgroup) read(name string) string {
	fd, ok := c.files[name]
	if !ok {
		return ""
	}
	var buf [8 << 10]byte
	n, err := syscall.Pread(fd, buf[:], 0)
	if err != nil || n <= 0 {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}

// unlimited is above any machine's memory; cgroup v1 says "no limit" with a number near 2^63.
const unlimited = 1 << 60

func integer(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n >= unlimited {
		return nil
	}
	return &n
}

// field finds "name value" among the lines of text.
func field(text, name string) *int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return integer(strings.TrimSpace(value))
		}
	}
	return nil
}

func (c *Cgroup) pick(v2, v1 string) string {
	if c.V2 {
		return c.read(v2)
	}
	return c.read(v1)
}

// OomKills counts processes of this cgroup the kernel killed for memory; nil where nobody counts.
func (c *Cgroup) OomKills() *int64 {
	return field(c.pick("memory.events", "memory/memory.oom_control"), "oom_kill")
}

// Pids tells current, limit and how often a fork was refused.
func (c *Cgroup) Pids() (current, limit, refused *int64) {
	return integer(c.pick("pids.current", "pids/pids.current")), integer(c.pick("pids.max", "pids/pids.max")),
		field(c.pick("pids.events", "pids/pids.events"), "max")
}

// Memory tells used bytes without reclaimable page cache, the limit and the peak.
func (c *Cgroup) Memory() (used, limit, peak *int64) {
	used = integer(c.pick("memory.current", "memory/memory.usage_in_bytes"))
	limit = integer(c.pick("memory.max", "memory/memory.limit_in_bytes"))
	peak = integer(c.pick("memory.peak", "memory/memory.max_usage_in_bytes"))
	cache := "inactive_file"
	if !c.V2 {
		cache = "total_inactive_file"
	}
	if reclaimable := field(c.pick("memory.stat", "memory/memory.stat"), cache); used != nil && reclaimable != nil {
		*used = max(0, *used-*reclaimable)
	}
	return used, limit, peak
}

// CPU tells used and throttled milliseconds and the limit in cores.
func (c *Cgroup) CPU() (usageMs, throttledMs *int64, cores *float64) {
	if c.V2 {
		stat := c.read("cpu.stat")
		usageMs, throttledMs = scale(field(stat, "usage_usec"), 1e3), scale(field(stat, "throttled_usec"), 1e3)
		if quota, period, ok := strings.Cut(c.read("cpu.max"), " "); ok {
			cores = ratio(integer(quota), integer(period))
		}
		return usageMs, throttledMs, cores
	}
	return scale(integer(c.read("cpuacct/cpuacct.usage")), 1e6), scale(field(c.read("cpu/cpu.stat"), "throttled_time"), 1e6),
		ratio(integer(c.read("cpu/cpu.cfs_quota_us")), integer(c.read("cpu/cpu.cfs_period_us")))
}

func scale(n *int64, by int64) *int64 {
	if n != nil {
		*n /= by
	}
	return n
}

func ratio(quota, period *int64) *float64 {
	if quota == nil || period == nil || *quota <= 0 || *period <= 0 {
		return nil
	}
	r := float64(*quota) / float64(*period)
	return &r
}

// IO tells bytes read from and written to block devices.
func (c *Cgroup) IO() (read, written *int64) {
	var r, w int64
	if c.V2 {
		if _, ok := c.files["io.stat"]; !ok {
			return nil, nil
		}
		for _, word := range strings.Fields(c.read("io.stat")) {
			if v, ok := strings.CutPrefix(word, "rbytes="); ok {
				r += orZero(integer(v))
			} else if v, ok := strings.CutPrefix(word, "wbytes="); ok {
				w += orZero(integer(v))
			}
		}
		return &r, &w
	}
	if _, ok := c.files["blkio/blkio.throttle.io_service_bytes"]; !ok {
		return nil, nil
	}
	for line := range strings.Lines(c.read("blkio/blkio.throttle.io_service_bytes")) {
		// device, operation, bytes; the last line is only a total.
		switch f := strings.Fields(line); {
		case len(f) == 3 && f[1] == "Read":
			r += orZero(integer(f[2]))
		case len(f) == 3 && f[1] == "Write":
			w += orZero(integer(f[2]))
		}
	}
	return &r, &w
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
