package files

import (
	"context"
	"io"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
)

// WriteFile is one file of a write request; Len bytes of the body are its content.
type WriteFile struct {
	Path    string  `json:"path"`
	Len     int64   `json:"len"`
	Mode    string  `json:"mode"`
	IfMatch *string `json:"if_match"`
}

// Written tells what became of one file.
type Written struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	Etag      string `json:"etag"`
	Created   bool   `json:"created"`
}

// MaxWriteFiles bounds one request.
const MaxWriteFiles = 1000

// Write replaces files atomically, each for itself: all are checked, then all contents are staged beside their targets,
// then all are renamed. Where that fails midway, it returns those that were, too.
func (f *Files) Write(ctx context.Context, specs []WriteFile, body io.Reader) ([]Written, error) {
	if len(specs) > MaxWriteFiles {
		return nil, fault.New(fault.LimitExceeded, "at most %d files in one call", MaxWriteFiles).With("kind", "size")
	}
	list := make([]*staged, 0, len(specs))
	defer func() { f.discard(list) }()
	for _, spec := range specs {
		s, err := f.check(ctx, spec)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	for _, s := range list {
		if err := f.do(ctx, s.spec.Path, s.stage); err != nil {
			return nil, err
		}
		if err := f.fill(ctx, s, body); err != nil {
			return nil, err
		}
	}
	// From here on an aborted request changes nothing any more: half of the files would be worse than all of them.
	done := make([]Written, 0, len(list))
	for _, s := range list {
		var w Written
		err := f.do(context.WithoutCancel(ctx), s.spec.Path, func() (err error) {
			f.committing.Lock()
			defer f.committing.Unlock()
			w, err = s.commit()
			return err
		})
		if err != nil {
			return done, err
		}
		done = append(done, w)
	}
	return done, nil
}

// check finds the target and holds it against the conditions, without changing anything.
func (f *Files) check(ctx context.Context, spec WriteFile) (*staged, error) {
	full, err := f.resolve(spec.Path)
	if err != nil {
		return nil, err
	}
	if spec.Len < 0 {
		return nil, fault.New(fault.InvalidArgument, "%s: len is negative", spec.Path)
	}
	s := &staged{spec: spec, fd: -1, mode: 0o644}
	if spec.Mode != "" {
		if s.mode, err = parseMode(spec.Mode); err != nil {
			return nil, err
		}
	}
	return s, f.do(ctx, spec.Path, func() error {
		s.target, err = follow(full)
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		exists, err := s.matches(&st)
		if err != nil {
			return err
		}
		s.created = !exists
		if exists && spec.Mode == "" {
			s.mode = st.Mode & 0o7777
		}
		return nil
	})
}

// fill writes the content. The descriptor is open, so this needs no rights, and a slow sender holds up no thread of the pool.
func (f *Files) fill(ctx context.Context, s *staged, body io.Reader) error {
	left := s.spec.Len
	buf := make([]byte, min(left, 256<<10))
	for left > 0 {
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fault.New(fault.InvalidArgument, "%s: the body ends %d bytes early", s.spec.Path, left-int64(n))
		}
		left -= int64(n)
		if err := f.do(ctx, s.spec.Path, func() error { return writeFull(s.fd, buf[:n]) }); err != nil {
			return err
		}
	}
	return nil
}

// discard removes what was staged and not committed.
func (f *Files) discard(list []*staged) {
	_ = f.pool.Do(context.Background(), func() {
		for _, s := range list {
			if s.fd >= 0 {
				syscall.Close(s.fd)
			}
			if s.temp != "" {
				_ = syscall.Unlink(s.temp)
			}
		}
	})
}
