package files

import (
	"path/filepath"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
)

// staged is a file on its way to its place.
type staged struct {
	spec    WriteFile
	target  string // after following links
	temp    string
	fd      int
	mode    uint32
	created bool
}

// matches tells whether the target exists and is what the request expects.
func (s *staged) matches(st *syscall.Stat_t) (exists bool, err error) {
	err = syscall.Lstat(s.target, st)
	if err != nil && err != syscall.ENOENT {
		return false, err
	}
	exists = err == nil
	if exists {
		if err := onlyRegular(s.spec.Path, st); err != nil {
			return true, err
		}
	}
	want := s.spec.IfMatch
	switch {
	case want == nil:
	case *want == "" && exists:
		return true, fault.New(fault.FileConflict, "%s: exists already", s.spec.Path).With("etag", etagOf(st))
	case *want != "" && !exists:
		return false, fault.New(fault.FileConflict, "%s: is gone; it was expected to be there unchanged", s.spec.Path)
	case *want != "" && *want != etagOf(st):
		return true, fault.New(fault.FileConflict, "%s: has changed since it was read; read it again", s.spec.Path).With("etag", etagOf(st))
	}
	return exists, nil
}

// follow resolves symbolic links at the end of a path, as opening it for writing would.
func follow(path string) (string, error) {
	for range 40 {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			if path[len(path)-1] == '/' {
				return "", syscall.EISDIR
			}
			return path, nil
		}
		target := readlink(path)
		if target == "" {
			return "", syscall.ENOENT
		}
		if !filepath.IsAbs(target) {
			dir, _ := split(path)
			target = dir + "/" + target
		}
		path = target
	}
	return "", syscall.ELOOP
}

// split cuts at the last slash without cleaning: the kernel resolves what is before it.
func split(path string) (dir, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return ".", path
}

// stage makes the parents and an empty file beside the target.
func (s *staged) stage() error {
	dir, name := split(s.target)
	if name == "" || name == "." || name == ".." {
		return syscall.EISDIR
	}
	if _, err := makeDirs(dir); err != nil {
		return err
	}
	s.temp = dir + "/" + tempName()
	const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	fd, err := syscall.Open(s.temp, flags, 0o600)
	if err != nil {
		s.temp = ""
		return err
	}
	s.fd = fd
	return nil
}

// makeDirs makes a directory and those it is in, and tells how many that were.
func makeDirs(dir string) (made int, err error) {
	if dir == "" {
		return 0, nil
	}
	var st syscall.Stat_t
	err = syscall.Stat(dir, &st)
	if err == nil {
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return 0, syscall.ENOTDIR
		}
		return 0, nil
	}
	if err != syscall.ENOENT {
		return 0, err
	}
	parent, _ := split(dir)
	if made, err = makeDirs(parent); err != nil {
		return made, err
	}
	if err := syscall.Mkdir(dir, 0o755); err == nil {
		made++
	} else if err != syscall.EEXIST {
		return made, err
	}
	return made, nil
}

func writeFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := syscall.Write(fd, p)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// commit looks once more and puts the file in its place. A file that must not exist is linked, which fails if it does.
func (s *staged) commit() (w Written, err error) {
	var st syscall.Stat_t
	exists, err := s.matches(&st)
	if err != nil {
		return w, err
	}
	if err := syscall.Fchmod(s.fd, s.mode); err != nil {
		return w, err
	}
	if s.spec.IfMatch != nil && *s.spec.IfMatch == "" {
		if err := syscall.Link(s.temp, s.target); err != nil {
			return w, err
		}
		_ = syscall.Unlink(s.temp)
	} else if err := syscall.Rename(s.temp, s.target); err != nil {
		return w, err
	}
	s.temp = ""
	if err := syscall.Fstat(s.fd, &st); err != nil {
		return w, err
	}
	return Written{Path: s.spec.Path, SizeBytes: st.Size, Etag: etagOf(&st), Created: !exists}, nil
}
