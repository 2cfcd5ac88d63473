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
		var why refusal
		if errors.As(err, &why) {
			x.refuse(h.Name, string(why))
		} else if err != nil {
			return err
		}
	}
}

// broken says what is wrong with the archive, unless it is the connection.
func (x *extractor) broken(err error) error {
	if x.ctx.Err() != nil {
		return x.ctx.Err()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.InvalidArgument, "the archive ends early, after %d files", x.out.Files)
	}
	return fault.New(fault.InvalidArgument, "the body is not a tar stream that can be read: %s", fault.Clip(err.Error(), 128))
}

func (x *extractor) refuse(name, why string) {
	x.out.RefusedTotal++
	if len(x.out.Refused) < maxRefused {
		x.out.Refused = append(x.out.Refused, Refusal{strings.ToValidUTF8(fault.Clip(name, maxPath), "\uFFFD"), why})
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

// entryName is the clean relative name; empty for the root itself.
func entryName(name string) (string, error) {
	switch {
	case strings.HasPrefix(name, "/"):
		return "", refusal("an absolute name")
	case len(name) > maxPath:
		return "", refusal("the name is too long")
	case strings.ContainsRune(name, 0):
		return "", refusal("the name contains a NUL character")
	}
	var parts []string
	for _, part := range strings.Split(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", refusal("the name contains ..")
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), nil
}

// change runs one change on the pool. Errors that concern this entry alone become refusals.
func (x *extractor) change(name string, job func(parent int, base string) error) error {
	var refused error
	err := x.f.do(x.ctx, name, func() error {
		dir, base := cutLast(name)
		err := x.enter(dir)
		if err == nil {
			err = job(x.parent, base)
		}
		if refused = ofEntry(err); refused != nil {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return refused
}

// ofEntry is the refusal an error amounts to, or nil.
func ofEntry(err error) error {
	switch err {
	case syscall.EACCES, syscall.EPERM:
		return refusal("permission denied for the sandbox's user")
	case syscall.EROFS:
		return refusal("a read-only file system")
	case syscall.ENAMETOOLONG:
		return refusal("the name is too long")
	case syscall.EISDIR, syscall.ENOTEMPTY, syscall.EEXIST:
		return refusal("a directory has this name")
	case syscall.ENOTDIR:
		return refusal("the name leads through a file")
	case syscall.ELOOP:
		return refusal("the name leads through a symlink")
	case syscall.ENOENT:
		return refusal("its directory went away meanwhile")
	case syscall.ETXTBSY, syscall.EBUSY, syscall.EINVAL, syscall.EILSEQ:
		return refusal(err.Error())
	}
	if _, ok := err.(refusal); ok {
		return err
	}
	return nil
}

// enter opens a directory, and makes what lacks on the way. A link on the way is an error, never followed.
func (x *extractor) enter(dir string) error {
	if x.parent >= 0 && dir == x.parentName {
		return nil
	}
	x.leaveParent()
	fd, err := sys.Dup(x.root)
	if err != nil {
		return err
	}
	for rest := dir; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next, err := enterDir(fd, part)
		syscall.Close(fd)
		if err != nil {
			return err
		}
		fd = next
	}
	x.parent, x.parentName = fd, dir
	return nil
}

func enterDir(fd int, name string) (int, error) {
	const flags = sys.OPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	next, err := syscall.Openat(fd, name, flags, 0)
	if err == syscall.ENOENT {
		if err = syscall.Mkdirat(fd, name, 0o755); err != nil && err != syscall.EEXIST {
			return -1, err
		}
		next, err = syscall.Openat(fd, name, flags, 0)
	}
	if err == syscall.ENOTDIR {
		var st syscall.Stat_t
		if sys.Fstatat(fd, name, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			err = syscall.ELOOP
		}
	}
	return next, err
}

func cutLast(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

func (x *extractor) leaveParent() {
	if x.parent >= 0 {
		syscall.Close(x.parent)
		x.parent, x.parentName = -1, ""
	}
}

func (x *extractor) dir(name string, h *tar.Header) error {
	made := false
	err := x.change(name, func(parent int, base string) error {
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
	})
	if made && len(x.late) < lateDirs {
		x.late = append(x.late, lateDir{name, uint32(h.Mode) & 0o777, h.ModTime})
	}
	return err
}

// finish gives the directories their modes and times, the innermost first.
func (x *extractor) finish() error {
	next := len(x.late)
	if next == 0 {
		return nil
	}
	return x.f.steps(x.ctx, x.path, func() (more bool, err error) {
		next--
		d := x.late[next]
		dir, base := cutLast(d.name)
		if x.enter(dir) == nil {
			const flags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
			if fd, err := syscall.Openat(x.parent, base, flags, 0); err == nil {
				_ = sys.SetModified(fd, d.at)
				_ = syscall.Fchmod(fd, d.mode)
				syscall.Close(fd)
			}
		}
		return next > 0, nil
	})
}

func (x *extractor) symlink(name string, h *tar.Header) error {
	if err := staysInside(name, h.Linkname); err != nil {
		return err
	}
	err := x.change(name, func(parent int, base string) error {
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
	})
	if err == nil {
		x.out.Files++
	}
	return err
}

// staysInside refuses targets that leave the root. The directories a name leads through are no links, so going up from
// there is safe to count; going up behind any other name is not, as that may be a link to elsewhere.
func staysInside(name, target string) error {
	if target == "" || len(target) > maxPath || strings.ContainsRune(target, 0) {
		return refusal("a symlink without a target that can be")
	}
	if target[0] == '/' {
		return refusal("a symlink to an absolute path")
	}
	up, down := 0, false
	for _, part := range strings.Split(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if up++; down {
				return refusal("a symlink that goes up again behind a name")
			}
		default:
			down = true
		}
	}
	if up > strings.Count(name, "/") {
		return refusal("a symlink that leaves the path")
	}
	return nil
}

// file writes beside the name and then takes its place, so that nobody sees half a file.
func (x *extractor) file(name string, h *tar.Header) error {
	temp, fd := "", -1
	defer func() {
		if fd >= 0 {
			_ = x.f.pool.Do(context.WithoutCancel(x.ctx), func() {
				syscall.Close(fd)
				_ = sys.Unlinkat(x.parent, temp, false)
			})
		}
	}()
	for left, first := h.Size, true; first || left > 0; first = false {
		n, err := io.ReadFull(x.tar, x.buf[:min(left, int64(len(x.buf)))])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return x.broken(err)
		}
		left -= int64(n)
		// Small files are one job, and what is behind the first piece of a large one needs no name any more.
		err = x.change(name, func(parent int, base string) (err error) {
			if first {
				temp = tempName()
				const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
				if fd, err = syscall.Openat(parent, temp, flags, 0o600); err != nil {
					fd = -1
					return err
				}
			}
			if err := writeFull(fd, x.buf[:n]); err != nil {
				return err
			}
			if left > 0 {
				return nil
			}
			return x.place(fd, parent, temp, base, h)
		})
		if err != nil {
			return err
		}
	}
	syscall.Close(fd)
	fd = -1
	x.out.Files++
	x.out.Bytes += h.Size
	return nil
}

// place gives a complete file its mode, its time and its name.
func (x *extractor) place(fd, parent int, temp, base string, h *tar.Header) error {
	if err := syscall.Fchmod(fd, uint32(h.Mode)&0o777); err != nil {
		return err
	}
	if err := sys.SetModified(fd, h.ModTime); err != nil {
		return err
	}
	return syscall.Renameat(parent, temp, parent, base)
}
