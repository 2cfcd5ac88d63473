package proc

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Entry is what /proc tells of a live process.
type Entry struct {
	Pid, Ppid     int
	Uid           int
	Pgid, Session int
	Stopped       bool
	Threads       int
	groups        string // the line as the kernel writes it, with a space at each end
}

// InGroup tells whether the process has the supplementary group.
func (e Entry) InGroup(gid int) bool {
	return strings.Contains(e.groups, " "+strconv.Itoa(gid)+" ")
}

// scanning lets one scan run at a time: hundreds of them in system calls would each take a thread.
var scanning sync.Mutex

// Scan lists the live processes. Zombies are left out, except those whose other threads still run.
// It reads into one buffer: it has to be fast while a fork bomb takes all the processor time.
func Scan() ([]Entry, error) {
	scanning.Lock()
	defer scanning.Unlock()
	dir, err := syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(dir)
	var entries []Entry
	names := make([]byte, 16<<10)
	text := make([]byte, 4<<10)
	for {
		n, err := syscall.ReadDirent(dir, names)
		if err != nil || n <= 0 {
			return entries, err
		}
		for rest := names[:n]; len(rest) > 0; {
			pid, size := nextPid(rest)
			rest = rest[size:]
			if pid == 0 {
				continue
			}
			if e, ok := inspect(pid, text); ok {
				entries = append(entries, e)
			}
		}
	}
}

// nextPid reads the first linux_dirent64 of buf: ino 8, off 8, reclen 2, type 1, name.
func nextPid(buf []byte) (pid, size int) {
	size = int(buf[16]) | int(buf[17])<<8
	for _, c := range buf[19:size] {
		if c == 0 {
			break
		}
		if c < '0' || c > '9' {
			return 0, size
		}
		pid = pid*10 + int(c-'0')
	}
	return pid, size
}

func readProc(name string, buf []byte) []byte {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	n, err := syscall.Read(fd, buf)
	if err != nil || n < 0 {
		return nil
	}
	return buf[:n]
}

func inspect(pid int, buf []byte) (Entry, bool) {
	text := readProc("/proc/"+strconv.Itoa(pid)+"/status", buf)
	if text == nil {
		return Entry{}, false
	}
	e := Entry{Pid: pid, Uid: -1, Session: -1}
	state, threads := byte('R'), 1
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		name, value, ok := bytes.Cut(line, []byte(":\t"))
		if !ok {
			continue
		}
		switch string(name) {
		case "State":
			state = value[0]
		case "PPid":
			e.Ppid = number(value)
		case "Uid":
			e.Uid = number(value)
		case "Groups":
			e.groups = " " + string(value) + " "
		case "NSpgid":
			e.Pgid = lastNumber(value)
		case "NSsid":
			e.Session = lastNumber(value)
		case "Threads":
			threads = number(value)
		}
	}
	if state == 'X' || state == 'Z' && threads <= 1 {
		return Entry{}, false
	}
	e.Threads = threads
	e.Stopped = state == 'T' || state == 't'
	if e.Session < 0 {
		e.fromStat(buf)
	}
	return e, true
}

// fromStat asks /proc/PID/stat where status does not tell the session, as on gVisor.
func (e *Entry) fromStat(buf []byte) {
	text := readProc("/proc/"+strconv.Itoa(e.Pid)+"/stat", buf)
	if i := bytes.LastIndexByte(text, ')'); i >= 0 {
		if fields := bytes.Fields(text[i+1:]); len(fields) > 3 {
			e.Pgid, e.Session = number(fields[2]), number(fields[3])
		}
	}
}

func number(text []byte) (n int) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// lastNumber is the id in the innermost pid namespace, which is the last one listed.
func lastNumber(text []byte) int {
	if i := bytes.LastIndexByte(text, '\t'); i >= 0 {
		text = text[i+1:]
	}
	return number(text)
}
