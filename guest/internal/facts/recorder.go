package facts

import (
	"bytes"
	"encoding/json"
	"strconv"
	"syscall"
)

// LineMax bounds a line of the flight recorder. It is PIPE_BUF, so a write to a pipe that does not block is all or nothing.
const LineMax = 4096

// shortMax leaves room in a line for the count of lost ones.
const shortMax = LineMax - 64

// Recorder writes facts as lines to a descriptor without ever blocking; what does not fit is counted, not kept.
type Recorder struct {
	fd   int
	lost int
	torn bool
}

// NewRecorder switches fd to non-blocking.
func NewRecorder(fd int) *Recorder {
	_ = syscall.SetNonblock(fd, true)
	return &Recorder{fd: fd}
}

// Write records one fact. Calls come one at a time, from the log.
func (r *Recorder) Write(fact []byte) {
	line := r.line(fact)
	if r.torn {
		line = append([]byte{'\n'}, line...)
	}
	for {
		n, err := syscall.Write(r.fd, line)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			r.lost++
			return
		}
		r.torn = n < len(line)
		if r.torn {
			r.lost++
		} else {
			r.lost = 0
		}
		return
	}
}

// line fits the fact and the count of lost lines into the bound by leaving out the long members first.
func (r *Recorder) line(fact []byte) []byte {
	suffix := []byte("}\n")
	if r.lost > 0 {
		suffix = []byte(`,"lost":` + strconv.Itoa(r.lost) + "}\n")
	}
	if len(fact)-1+len(suffix) >= LineMax {
		fact = shorten(fact)
	}
	return append(bytes.Clone(fact[:len(fact)-1]), suffix...)
}

func shorten(fact []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(fact, &members) != nil {
		return []byte(`{"kind":"unreadable"}`)
	}
	members["cut"] = json.RawMessage("true")
	fewerChanges(members)
	for _, name := range []string{"cwd", "command", "meta"} {
		delete(members, name)
		if short, err := json.Marshal(members); err == nil && len(short) < shortMax {
			return short
		}
	}
	short, _ := json.Marshal(map[string]json.RawMessage{
		"seq": members["seq"], "at": members["at"], "kind": members["kind"], "exec_id": members["exec_id"], "cut": json.RawMessage("true"),
	})
	return short
}

// fewerChanges keeps as many of a fact's changed files as there is room for, the first ones, and counts the others.
func fewerChanges(members map[string]json.RawMessage) {
	var changes []json.RawMessage
	if json.Unmarshal(members["changes"], &changes) != nil {
		return
	}
	var omitted int
	_ = json.Unmarshal(members["omitted"], &omitted)
	const head = 300 // what such a fact has beside its changes and meta
	room, kept := shortMax-head-len(members["meta"]), 0
	for kept < len(changes) && room > len(changes[kept]) {
		room -= len(changes[kept]) + 1
		kept++
	}
	members["changes"], _ = json.Marshal(changes[:kept])
	members["omitted"], _ = json.Marshal(omitted + len(changes) - kept)
}
