package execs

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"chorus-sandbox/guest/internal/spool"
	"chorus-sandbox/guest/internal/sys"
)

// output moves what a process writes into a spool until all writers are gone.
type output struct {
	file  *os.File
	spool *spool.Spool
	eof   chan struct{}

	moving sync.Mutex // held from a read until its bytes are in the spool

	followers followers
}

// Buffers are taken only when there is something to read: hundreds of silent execs cost none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// pump runs until the end of the stream. Nobody it tells may block; readers that follow the stream set its pace.
func (o *output) pump(changed func()) {
	defer close(o.eof)
	defer o.file.Close()
	conn, err := o.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buf *[]byte
		var n int
		var failed error
		held := false
		err := conn.Read(func(fd uintptr) bool {
			o.moving.Lock()
			buf = buffers.Get().(*[]byte)
			for {
				if n, failed = syscall.Read(int(fd), *buf); failed != syscall.EINTR {
					break
				}
			}
			if failed == syscall.EAGAIN {
				buffers.Put(buf)
				buf = nil
				o.moving.Unlock()
				return false
			}
			held = true
			return true
		})
		more := n > 0 && failed == nil && err == nil
		if more {
			o.spool.Write((*buf)[:n])
		}
		if held {
			o.moving.Unlock()
		}
		if more {
			buffers.Put(buf)
			changed()
			o.pace()
			continue
		}
		if buf != nil {
			buffers.Put(buf)
		}
		return // end of file; a terminal whose last user is gone says EIO
	}
}

// unread is how many bytes wait in the pipe.
func (o *output) unread() int {
	conn, err := o.file.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32
	if conn.Control(func(fd uintptr) {
		const fionread = 0x541B
		err = sys.Ioctl(fd, fionread, unsafe.Pointer(&n))
	}) != nil || err != nil {
		return 0
	}
	return int(n)
}

// owed is how much the spool holds once it has all that was written until now.
func (o *output) owed() int64 {
	o.moving.Lock()
	defer o.moving.Unlock()
	return o.spool.Total() + int64(o.unread())
}

// settleMax is for a machine so busy that reading a full pipe takes that long; without it an end could be told without its output.
const settleMax = 10 * time.Second

// settle waits until all that was written before the main process ended is in the spools, however busy the machine is.
func (e *Exec) settle() {
	limit := time.NewTimer(settleMax)
	defer limit.Stop()
	for _, o := range e.outputs {
		owed := o.owed()
		for open := true; open; {
			changed := e.Changed()
			if o.spool.Total() >= owed {
				break
			}
			select {
			case <-o.eof:
				open = false
			case <-changed:
			case <-limit.C:
				return
			}
		}
	}
}

const (
	drainMax   = 100 * time.Millisecond
	drainQuiet = 15 * time.Millisecond
)

// drain waits, after the main process has ended, for the end of its output: the end of the streams or, where children
// keep them open, a moment of silence.
func (e *Exec) drain() {
	e.settle()
	limit := time.NewTimer(drainMax)
	defer limit.Stop()
	quiet := time.NewTimer(drainQuiet)
	defer quiet.Stop()
	for _, o := range e.outputs {
		for open, seen := true, o.spool.Total(); open; {
			select {
			case <-o.eof:
				open = false
			case <-limit.C:
				return
			case <-quiet.C:
				quiet.Reset(drainQuiet)
				total := o.spool.Total()
				open = total != seen || o.unread() > 0
				seen = total
			}
		}
	}
}
