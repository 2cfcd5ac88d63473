package files

import (
	"archive/tar"
	"io"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

func header(kind byte, name string, st *syscall.Stat_t) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: int64(st.Mode & 0o777), ModTime: time.Unix(st.Mtim.Unix())}
}

// sendDirs sends the directories on the way that have not been: those that only lead to something included.
func (a *archiver) sendDirs() {
	first := len(a.dirs)
	for first > 0 && !a.dirs[first-1].sent {
		first--
	}
	for i := first; i < len(a.dirs); i++ {
		a.dirs[i].sent = true
		a.heads = append(a.heads, a.dirs[i].head)
	}
}

// file takes an open file to be sent next. A small one is read at once, so that it is sent as it is now.
func (a *archiver) file(fd int, name string, st *syscall.Stat_t) error {
	h := header(tar.TypeReg, name, st)
	h.Size = st.Size
	a.fd, a.small = fd, nil
	if st.Size <= int64(len(a.buf)) {
		n, err := sys.ReadFull(fd, a.buf, 0)
		a.endFile()
		if err != nil {
			return err
		}
		a.small, h.Size = a.buf[:n], int64(n)
	}
	a.heads = append(a.heads, h)
	return nil
}

// send writes what step found.
func (a *archiver) send(to *tar.Writer) error {
	heads := a.heads
	a.heads = a.heads[:0]
	for _, h := range heads {
		if err := to.WriteHeader(h); err != nil {
			if a.ctx.Err() != nil {
				return a.ctx.Err()
			}
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if err := a.content(h, to); err != nil {
				return err
			}
		}
	}
	if len(a.tree.levels) == 0 {
		a.done = true // a single file
	}
	return nil
}

func (a *archiver) content(h *tar.Header, to io.Writer) error {
	if a.fd < 0 {
		_, err := to.Write(a.small)
		return err
	}
	defer a.endFile()
	for at := int64(0); at < h.Size; {
		var n int
		err := a.f.do(a.ctx, h.Name, func() (err error) {
			n, err = sys.ReadFull(a.fd, a.buf[:min(int64(len(a.buf)), h.Size-at)], at)
			return err
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.FileConflict, "%s: got shorter while it was read", h.Name)
		}
		if _, err := to.Write(a.buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
