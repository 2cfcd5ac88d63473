package files

import (
	"syscall"

	"chorus-sandbox/guest/internal/ignore"
	"chorus-sandbox/guest/internal/sys"
)

// scopedIgnore is a .gitignore and the directory it is in.
type scopedIgnore struct {
	prefix string
	list   *ignore.List
}

func (s *searcher) ignored(n node) bool {
	for i := len(s.ignores) - 1; i >= 0; i-- {
		scope := s.ignores[i]
		if excluded, decided := scope.list.Match(n.path[len(scope.prefix):], n.isDir); decided {
			return excluded
		}
	}
	return false
}

// scope reads the .gitignore of a directory, if it has one.
func (s *searcher) scope(prefix string, dir int) {
	var st syscall.Stat_t
	fd, err := s.f.openAt(dir, ".gitignore", ".gitignore", &st)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	text := make([]byte, min(st.Size, ignoreFile))
	n, err := sys.ReadFull(fd, text, 0)
	if err != nil {
		return
	}
	list := ignore.Parse(text[:n])
	if list.Len() == 0 || s.rules+list.Len() > ignoreRules {
		return
	}
	s.rules += list.Len()
	s.ignores = append(s.ignores, scopedIgnore{prefix, list})
}

func (s *searcher) leave(prefix string) {
	if n := len(s.ignores); n > 0 && s.ignores[n-1].prefix == prefix {
		s.rules -= s.ignores[n-1].list.Len()
		s.ignores = s.ignores[:n-1]
	}
}
