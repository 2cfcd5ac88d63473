package files

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

const (
	transferChunk = 256 << 10
	maxTarEntries = 1_000_000
	maxRefused    = 200
	// Files up to smallFile wait, with their content, for others: up to queueMax changes are made at once.
	smallFile = 32 << 10
	queueMax  = 128
	// lateDirs bounds the directories whose mode and time are set at the end, when nothing goes into them any more.
	lateDirs = 100_000
	// tailMax is how much may follow the end of an archive.
	tailMax = 1 << 20
)

// Refusal is an entry that was passed over.
type Refusal struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Extracted tells what became of an archive.
type Extracted struct {
	Files        int       `json:"files"`
	Bytes        int64     `json:"bytes"`
	Refused      []Refusal `json:"refused"`
	RefusedTotal int       `json:"refused_total"`
}

// refusal is an error that concerns one entry only.
type refusal string

func (r refusal) Error() string { return string(r) }

// extractor reads the archive, which is the caller's to send as slowly as it likes, and borrows a thread for each change.
type extractor struct {
	f    *Files
	ctx  context.Context
	path string
	tar  *tar.Reader
	out  *Extracted
	root int
	buf  []byte

	queue []change // what waits for a thread
	used  int      // of buf, by the contents of files in the queue

	parent     int // the directory of the last entry, kept open
	parentName string
	late       []lateDir
}

// lateDir is a directory the archive made.
type lateDir struct {
	name string
	mode uint32
	at   time.Time
}

// Extract puts what is in a tar stream below path.
func (f *Files) Extract(ctx context.Context, path string, body io.Reader) (*Extracted, error) {
	full, err := f.resolve(path)
	if err != nil {
		return nil, err
	}
	if err := f.transfers.enter(ctx); err != nil {
		return nil, err
	}
	defer f.transfers.leave()
	in := bufio.NewReaderSize(body, transferChunk)
	x := &extractor{f: f, ctx: ctx, path: path, tar: tar.NewReader(in), root: -1, parent: -1,
		out: &Extracted{Refused: []Refusal{}}, buf: make([]byte, transferChunk)}
	defer x.close()
	err = f.do(ctx, path, func() (err error) {
		if _, err = makeDirs(strings.TrimRight(full, "/")); err != nil {
			return err
		}
		if x.root, err = sys.OpenPlain(full+"/", sys.OPath|syscall.O_DIRECTORY); err != nil {
			return err
		}
		return f.guestOnly(x.root)
	})
	if err != nil {
		return nil, err
	}
	if err := x.run(); err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(in, tailMax))
	return x.out, nil
}

func (x *extractor) close() {
	x.leaveParent()
	if x.root >= 0 {
		syscall.Close(x.root)
	}
}

func (x *extractor) run() error {
	for entries := 0; ; entries++ {
		h, err := x.tar.Next()
		if err == io.EOF {
			if err := x.flush(); err != nil {
				return err
			}
			return x.finish()
		}
		if err != nil {
			return x.broken(err)
		}
		switch {
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case entries >= maxTarEntries:
			err = refusal("more than 1000000 entries")
		default:
			err = x.entry(h)
		}
		if why, ok := err.(refusal); ok {
			if err = x.flush(); err == nil {
				x.refuse(h.Name, string(why)) // in the order of the archive
			}
		}
		if err != nil {
			return err
		}
	}
}

// broken says what is wrong with the archive, unless it is the connection.
func (x *extractor) broken(err error) error {
	if x.ctx.Err() != nil {
		return x.ctx.Err()
	}
	if err := x.flush(); err != nil {
		return err
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.InvalidArgument, "the archive ends early, after %d files", x.out.Files)
	}
	return fault.New(fault.InvalidArgument, "the body is not a tar stream that can be read: %s", fault.Clip(err.Error(), 128))
}

func (x *extractor) refuse(name, why string) {
	x.out.RefusedTotal++
	if len(x.out.Refused) < maxRefused {
		x.out.Refused = append(x.out.Refused, Refusal{strings.ToValidUTF8(fault.Clip(name, 1024), "\uFFFD"), why})
	}
}

// entry takes one entry of the archive.
func (x *extractor) entry(h *tar.Header) error {
	name, err := entryName(h.Name)
	if err != nil || name == "" {
		return err
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			h.Typeflag = tar.TypeGNUSparse
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(name, h)
	case tar.TypeDir:
		return x.dir(name, h)
	case tar.TypeSymlink:
		return x.symlink(name, h)
	case tar.TypeLink:
		return refusal("a hard link")
	case tar.TypeChar, tar.TypeBlock:
		return refusal("a device")
	case tar.TypeFifo:
		return refusal("a fifo")
	case tar.TypeGNUSparse:
		return refusal("a sparse file")
	}
	return refusal("an entry of an unknown type")
}

func (x *extractor) dir(name string, h *tar.Header) error {
	made := false
	run := func(parent int, base string) error {
		err := syscall.Mkdirat(parent, base, 0o755)
		if made = err == nil; err != syscall.EEXIST {
			return err
		}
		var st syscall.Stat_t
		if err := sys.Fstatat(parent, base, &st); err != nil {
			return err
		}
		if kind := kindOf(st.Mode); kind != "dir" {
			return refusal("a " + kind + " has this name")
		}
		return nil // it stays as it is
	}
	return x.submit(change{h.Name, name, run, func() {
		if made && len(x.late) < lateDirs {
			x.late = append(x.late, lateDir{name, uint32(h.Mode) & 0o777, h.ModTime})
		}
	}})
}

func (x *extractor) symlink(name string, h *tar.Header) error {
	if err := staysInside(name, h.Linkname); err != nil {
		return err
	}
	run := func(parent int, base string) error {
		temp := tempName()
		if err := sys.Symlinkat(h.Linkname, parent, temp); err != nil {
			return err
		}
		_ = sys.SetModifiedAt(parent, temp, h.ModTime)
		err := syscall.Renameat(parent, temp, parent, base)
		if err != nil {
			_ = sys.Unlinkat(parent, temp, false)
		}
		return err
	}
	return x.submit(change{h.Name, name, run, func() { x.out.Files++ }})
}
