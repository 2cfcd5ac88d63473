package files

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/ignore"
	"chorus-sandbox/guest/internal/sys"
)

const (
	maxSelect  = 1000 // patterns of one request
	maxLeftOut = 20
)

// ArchiveRequest asks for a directory or a file as a tar stream.
type ArchiveRequest struct {
	Path    string
	Include []string
	Exclude []string
}

// LeftOut tells what is not in an archive as it could not be read or is no file; Paths are the first ones.
type LeftOut struct {
	Total int       `json:"total"`
	Paths []Refusal `json:"paths"`
}

// archiver walks with the rights of the commands and sends without a thread of the pool.
type archiver struct {
	f       *Files
	ctx     context.Context
	tree    *tree
	include *ignore.List // nil: everything
	exclude *ignore.List
	dirs    []sentDir // the directories the walk is in
	leftOut LeftOut

	heads []*tar.Header // what is to be sent next
	fd    int           // the content behind the last one, if it is not all in buf
	small []byte
	buf   []byte
	done  bool
}

type sentDir struct {
	head     *tar.Header
	sent     bool
	included bool // and so is all in it
}

// Archive writes a tar stream of what is at path. An error after the first byte leaves it incomplete.
func (f *Files) Archive(ctx context.Context, r ArchiveRequest, to io.Writer) (*LeftOut, error) {
	if len(r.Include)+len(r.Exclude) > maxSelect {
		return nil, fault.New(fault.InvalidArgument, "include and exclude are %d patterns at most", maxSelect)
	}
	if err := f.transfers.enter(ctx); err != nil {
		return nil, err
	}
	defer f.transfers.leave()
	a := &archiver{f: f, ctx: ctx, tree: &tree{ctx: ctx}, exclude: ignore.New(r.Exclude), fd: -1, buf: make([]byte, transferChunk)}
	if len(r.Include) > 0 {
		a.include = ignore.New(r.Include)
	}
	defer a.close()
	if err := f.do(ctx, r.Path, func() error { return a.begin(r.Path) }); err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(to, transferChunk)
	archive := tar.NewWriter(out)
	for !a.done {
		if len(a.heads) == 0 {
			if err := f.steps(ctx, r.Path, a.step); err != nil {
				return nil, err
			}
		}
		if err := a.send(archive); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return &a.leftOut, out.Flush()
}

func (a *archiver) close() {
	a.tree.close()
	a.endFile()
}

func (a *archiver) endFile() {
	if a.fd >= 0 {
		syscall.Close(a.fd)
		a.fd = -1
	}
}

func (a *archiver) begin(path string) error {
	fd, full, st, err := a.f.start(path, a.tree)
	if err != nil || fd < 0 {
		return err
	}
	return a.file(fd, filepath.Base(full), &st)
}

// step walks on until there is something to send.
func (a *archiver) step() (more bool, err error) {
	n, ok, err := a.tree.next()
	if err != nil {
		return false, err
	}
	if !ok {
		a.done = true
		return false, nil
	}
	if n.leave {
		a.dirs = a.dirs[:len(a.dirs)-1]
		return true, nil
	}
	if excluded, _ := a.exclude.Match(n.path, n.isDir); excluded {
		return true, nil
	}
	included := a.included(n)
	if len(n.path) > maxPath {
		err = syscall.ENAMETOOLONG
	} else if n.isDir {
		err = a.dir(n, included)
	} else if included {
		err = a.entry(n)
	}
	if a.ctx.Err() != nil {
		return false, a.ctx.Err()
	}
	if err != nil && err != syscall.ENOENT {
		a.leave(n.path, why(err))
	}
	return len(a.heads) == 0, nil
}

func (a *archiver) leave(path, why string) {
	if a.leftOut.Total++; len(a.leftOut.Paths) < maxLeftOut {
		a.leftOut.Paths = append(a.leftOut.Paths, Refusal{strings.ToValidUTF8(fault.Clip(path, 512), "\uFFFD"), why})
	}
}

func why(err error) string {
	if r, ok := err.(refusal); ok {
		return string(r)
	}
	if r, ok := ofEntry(err).(refusal); ok {
		return string(r)
	}
	return fault.Clip(err.Error(), 128)
}

func (a *archiver) included(n node) bool {
	if a.include == nil {
		return true
	}
	if match, decided := a.include.Match(n.path, n.isDir); decided {
		return match
	}
	return len(a.dirs) > 0 && a.dirs[len(a.dirs)-1].included
}

func (a *archiver) dir(n node, included bool) error {
	if err := a.tree.descend(n); err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(a.tree.levels[len(a.tree.levels)-1].fd, &st); err != nil {
		return err
	}
	a.dirs = append(a.dirs, sentDir{head: header(tar.TypeDir, n.path+"/", &st), included: included})
	if included {
		a.sendDirs()
	}
	return nil
}

func (a *archiver) entry(n node) error {
	var st syscall.Stat_t
	if err := sys.Fstatat(n.dir, n.name, &st); err != nil {
		return err
	}
	switch kind := kindOf(st.Mode); kind {
	case "symlink":
		target, err := sys.Readlinkat(n.dir, n.name)
		if err != nil {
			return err
		}
		h := header(tar.TypeSymlink, n.path, &st)
		h.Linkname = target
		a.sendDirs()
		a.heads = append(a.heads, h)
		return nil
	case "file":
		fd, err := a.f.openAt(n.dir, n.name, n.path, &st)
		if err != nil {
			return err
		}
		a.sendDirs()
		return a.file(fd, n.path, &st)
	default:
		return refusal("a " + kind)
	}
}
