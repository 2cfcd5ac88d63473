package files

import (
	"container/heap"
	"context"
	"encoding/base64"
	"strings"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

const (
	// DefaultList and MaxList bound the entries of one answer.
	DefaultList = 200
	MaxList     = 1000
	maxDepth    = 64
	// A walk that takes longer answers with what it has and a cursor.
	walkMax = 3 * time.Second
	// maxPage bounds the paths of an answer: names come from the sandbox and are up to 4 KiB long.
	maxPage = 1 << 20
)

// ListRequest asks for the entries below a directory, or for one file.
type ListRequest struct {
	Path   string
	Depth  int
	Glob   string
	Limit  int
	Cursor string
}

// Listing is a page of entries by path bytes.
type Listing struct {
	Entries    []Stat `json:"entries"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// List walks in the order of path bytes and holds one page in memory, however many files there are.
func (f *Files) List(ctx context.Context, r ListRequest) (*Listing, error) {
	full, err := f.resolve(r.Path)
	if err != nil {
		return nil, err
	}
	if r.Limit < 1 || r.Depth < 1 {
		return nil, fault.New(fault.InvalidArgument, "limit and depth are 1 or more")
	}
	glob, err := ParseGlob(r.Glob)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.Cursor)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "cursor is not one of ours")
	}
	w := &walk{ctx: ctx, glob: glob, after: string(after), limit: min(r.Limit, MaxList), until: time.Now().Add(walkMax)}
	out := &Listing{Entries: []Stat{}}
	err = f.do(ctx, r.Path, func() error {
		var st syscall.Stat_t
		if err := syscall.Stat(full, &st); err != nil {
			return err
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return out.single(r.Path, full)
		}
		fd, err := sys.OpenPlain(full, syscall.O_RDONLY|syscall.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err := f.guestOnly(fd); err != nil {
			return err
		}
		err = w.dir(fd, "", min(r.Depth, maxDepth))
		out.Entries = append(out.Entries, w.entries...)
		if err == errPageFull {
			out.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(w.last))
			return nil
		}
		return err
	})
	return out, err
}

func (l *Listing) single(path, full string) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(full, &st); err != nil {
		return err
	}
	s := describe(path, &st)
	if s.Type == "symlink" {
		s.Target = readlink(full)
	}
	l.Entries = append(l.Entries, s)
	return nil
}

// errPageFull ends a walk that goes on in the next page.
var errPageFull = fault.New(fault.Internal, "page full")

type walk struct {
	ctx     context.Context
	glob    *Glob
	after   string // only what sorts behind it
	limit   int
	until   time.Time
	entries []Stat
	bytes   int
	last    string // the last path that was looked at
}

// A directory stands among its siblings twice: as itself and, with a slash, as all that is below it. Sorted like that,
// the walk follows the order of path bytes ("a", "a-b", "a/c").
func (w *walk) dir(fd int, prefix string, depth int) error {
	for from := ""; ; {
		names, more, err := w.batch(fd, prefix, from, depth)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := w.visit(fd, prefix, name, depth); err != nil {
				return err
			}
			from = name
		}
		if !more {
			return nil
		}
	}
}

func (w *walk) visit(fd int, prefix, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if below, ok := strings.CutSuffix(name, "/"); ok {
		sub, err := syscall.Openat(fd, below, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil // gone, or not ours to read: its own entry tells its mode
		}
		defer syscall.Close(sub)
		return w.dir(sub, prefix+name, depth-1)
	}
	path := prefix + name
	if len(w.entries) >= w.limit || w.bytes > maxPage || time.Now().After(w.until) && w.last != "" {
		return errPageFull
	}
	w.last = path
	if !w.glob.Match(path) {
		return nil
	}
	var st syscall.Stat_t
	if sys.Fstatat(fd, name, &st) != nil {
		return nil
	}
	s := describe(path, &st)
	if s.Type == "symlink" {
		s.Target, _ = sys.Readlinkat(fd, name)
	}
	w.bytes += len(path) + len(s.Target)
	w.entries = append(w.entries, s)
	return nil
}

// batch returns the lowest names of a directory behind from, and whether there are more.
func (w *walk) batch(fd int, prefix, from string, depth int) (names []string, more bool, err error) {
	if _, err := syscall.Seek(fd, 0, 0); err != nil {
		return nil, false, err
	}
	size := w.limit + 2
	lowest := &maxHeap{}
	add := func(name string) {
		if name <= from || !w.wanted(prefix+name) {
			return
		}
		if lowest.Len() < size {
			heap.Push(lowest, name)
			return
		}
		more = true
		if name < (*lowest)[0] {
			(*lowest)[0] = name
			heap.Fix(lowest, 0)
		}
	}
	err = eachName(w.ctx, fd, func(name string, isDir bool) {
		if isDir || w.glob.Match(prefix+name) {
			add(name)
		}
		if isDir && depth > 1 {
			add(name + "/")
		}
	})
	if err != nil {
		return nil, false, err
	}
	names = make([]string, lowest.Len())
	for i := len(names) - 1; i >= 0; i-- {
		names[i] = heap.Pop(lowest).(string)
	}
	return names, more, nil
}

// wanted leaves out what an earlier page had; of a directory's inside only what can lie behind the cursor stays.
func (w *walk) wanted(path string) bool {
	return path > w.after || strings.HasSuffix(path, "/") && strings.HasPrefix(w.after, path)
}

func direntName(raw []byte) string {
	for i, c := range raw {
		if c == 0 {
			return string(raw[:i])
		}
	}
	return string(raw)
}

type maxHeap []string

func (h maxHeap) Len() int           { return len(h) }
func (h maxHeap) Less(i, j int) bool { return h[i] > h[j] }
func (h maxHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *maxHeap) Push(x any)        { *h = append(*h, x.(string)) }
func (h *maxHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
