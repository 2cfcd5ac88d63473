package execs

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

// input writes to the stdin of an exec, one writer at a time, in the order they came.
type input struct {
	file *os.File // nil where stdin was never open
	tty  bool
	turn chan struct{} // holds a token while nobody writes
	gone chan struct{} // closed when nothing can be written any more
	once sync.Once
}

func newInput(file *os.File, tty bool) *input {
	in := &input{file: file, tty: tty, turn: make(chan struct{}, 1), gone: make(chan struct{})}
	in.turn <- struct{}{}
	if file == nil {
		in.once.Do(func() { close(in.gone) })
	}
	return in
}

func (in *input) closed() bool {
	select {
	case <-in.gone:
		return true
	default:
		return false
	}
}

var errStdinClosed = fault.New(fault.ExecEnded, "stdin of this exec is closed: it has ended, or it was started without keep_stdin")

// write copies from r with the back-pressure of the process. It returns how much the process's pipe has taken.
func (in *input) write(ctx context.Context, r io.Reader, eof bool) (int64, error) {
	select {
	case <-in.turn:
	case <-in.gone:
		return 0, errStdinClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { in.turn <- struct{}{} }()
	if in.closed() {
		return 0, errStdinClosed
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = in.file.SetWriteDeadline(time.Unix(1, 0))
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken
			if !in.closed() {
				_ = in.file.SetWriteDeadline(time.Time{})
			}
		}
	}()
	return in.copy(ctx, r, eof)
}

func (in *input) copy(ctx context.Context, r io.Reader, eof bool) (int64, error) {
	var total int64
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, readErr := r.Read(*buf)
		if n > 0 {
			written, err := in.file.Write((*buf)[:n])
			total += int64(written)
			if err != nil {
				if ctx.Err() != nil {
					return total, ctx.Err()
				}
				in.shut()
				return total, errStdinClosed
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return total, readErr
		}
	}
	if eof {
		in.end()
	}
	return total, nil
}

// end tells the process that nothing more comes. A terminal stays open: end of file is a character there.
func (in *input) end() {
	if in.tty {
		_, _ = in.file.Write([]byte{4})
		return
	}
	in.shut()
}

// shut is for when nobody listens any more; it wakes a writer that waits. The terminal's master belongs to its reader.
func (in *input) shut() {
	in.once.Do(func() {
		close(in.gone)
		_ = in.file.SetWriteDeadline(time.Unix(1, 0))
		if !in.tty {
			in.file.Close()
		}
	})
}

// begin writes what the exec was started with, before anybody else's input.
func (in *input) begin(data []byte, eof bool) {
	if in.file == nil {
		return
	}
	if len(data) == 0 {
		if eof {
			in.end()
		}
		return
	}
	<-in.turn
	go func() {
		defer func() { in.turn <- struct{}{} }()
		_, _ = in.copy(context.Background(), bytes.NewReader(data), eof)
	}()
}

func (in *input) resize(w Window) error {
	if !in.tty {
		return fault.New(fault.InvalidArgument, "this exec has no terminal; start it with tty")
	}
	if in.closed() {
		return errStdinClosed
	}
	conn, err := in.file.SyscallConn()
	if err != nil {
		return errStdinClosed
	}
	var failed error
	if conn.Control(func(fd uintptr) { failed = sys.SetWindow(fd, w.Rows, w.Cols) }) != nil || failed != nil {
		return errStdinClosed
	}
	return nil
}
