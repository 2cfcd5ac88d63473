package files

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/ignore"
	"chorus-sandbox/guest/internal/pattern"
	"chorus-sandbox/guest/internal/sys"
)

const (
	defaultMatches = 100
	maxMatches     = 500
	maxContext     = 5
	// omittedMax ends a search that finds nearly everything.
	omittedMax = 10_000
	searchTime = 10 * time.Second
	searchRead = 2 << 30
	// searchFile is the size of a file that is no source any more.
	searchFile = 64 << 20
	// answerMax bounds the text of an answer.
	answerMax = 1 << 20
	// ignoreFile bounds one .gitignore, and ignoreRules the rules of all that apply to one directory.
	ignoreFile  = 256 << 10
	ignoreRules = 4 * ignore.MaxRules
)

// SearchRequest asks for the lines that match below a directory or in a file.
type SearchRequest struct {
	Pattern    string `json:"pattern"`
	Path       string `json:"path"`
	Glob       string `json:"glob"`
	IgnoreCase bool   `json:"ignore_case"`
	Context    int    `json:"context"`
	Limit      *int   `json:"limit"`
}

// Match is a line that matches.
type Match struct {
	Path       string   `json:"path"`
	PathBase64 string   `json:"path_base64,omitempty"`
	Line       int64    `json:"line"`
	Text       string   `json:"text"`
	Before     []string `json:"before,omitempty"`
	After      []string `json:"after,omitempty"`
}

// Found is what a search found.
type Found struct {
	Matches       []Match `json:"matches"`
	Omitted       int     `json:"omitted"`
	FilesSearched int     `json:"files_searched"`
	Stopped       string  `json:"stopped,omitempty"`
}

// searcher walks with the rights of the commands and matches, which can take long, without a thread of the pool.
type searcher struct {
	f       *Files
	ctx     context.Context
	tree    *tree
	pattern *pattern.Pattern
	glob    *Glob
	context int
	limit   int
	until   time.Time
	ignores []scopedIgnore
	rules   int

	out  *Found
	size int   // of the text in out
	read int64 // bytes of files
	buf  []byte

	fd   int // the file that is searched
	path string
	end  int // how much of it has been read into buf
}

// Search answers with lines in the order of their paths.
func (f *Files) Search(ctx context.Context, r SearchRequest) (*Found, error) {
	s := &searcher{f: f, ctx: ctx, context: r.Context, limit: defaultMatches, out: &Found{Matches: []Match{}}, fd: -1}
	if r.Limit != nil {
		s.limit = *r.Limit
	}
	if r.Context < 0 || r.Context > maxContext || s.limit < 1 || s.limit > maxMatches {
		return nil, fault.New(fault.InvalidArgument, "context is 0 to %d and limit 1 to %d", maxContext, maxMatches)
	}
	if r.Pattern == "" {
		return nil, fault.New(fault.InvalidArgument, "pattern is empty")
	}
	var err error
	if s.pattern, err = pattern.Compile(r.Pattern, r.IgnoreCase); err != nil {
		return nil, err
	}
	if r.Glob != "" && !strings.Contains(r.Glob, "/") {
		r.Glob = "**/" + r.Glob // a name is looked for at any depth
	}
	if s.glob, err = ParseGlob(r.Glob); err != nil {
		return nil, err
	}
	if r.Path == "" {
		r.Path = "."
	}
	if err := f.heavy.enter(ctx); err != nil {
		return nil, err
	}
	defer f.heavy.leave()
	s.until = time.Now().Add(searchTime)
	s.tree = &tree{ctx: ctx}
	defer s.tree.close()
	return s.out, s.run(r.Path)
}

func (s *searcher) run(path string) error {
	s.buf = make([]byte, blockMin)
	if err := s.f.do(s.ctx, path, func() error { return s.begin(path) }); err != nil {
		return err
	}
	for {
		if s.fd >= 0 {
			s.scan()
			syscall.Close(s.fd)
			s.fd = -1
		}
		if s.over() || len(s.tree.levels) == 0 {
			return s.ctx.Err()
		}
		if err := s.f.steps(s.ctx, path, s.step); err != nil {
			return err
		}
	}
}

// begin opens what is asked for, which is searched whatever ignores it.
func (s *searcher) begin(path string) error {
	fd, _, _, err := s.f.start(path, s.tree)
	if err != nil {
		return err
	}
	if fd < 0 {
		s.scope("", s.tree.levels[0].fd)
		return nil
	}
	if err := s.open(fd, path); err != errNothing {
		return err
	}
	return nil
}

// over tells whether the search has come to one of its ends.
func (s *searcher) over() bool {
	switch {
	case s.ctx.Err() != nil || s.out.Omitted >= omittedMax:
		return true
	case s.read >= searchRead:
		s.out.Stopped = "size"
	case time.Now().After(s.until):
		s.out.Stopped = "time"
	}
	return s.out.Stopped != ""
}

// step walks on; it says no when there is a file to search or nothing is left.
func (s *searcher) step() (more bool, err error) {
	if s.over() {
		return false, nil
	}
	n, ok, err := s.tree.next()
	if err != nil {
		if s.ctx.Err() == nil {
			err = nil // a directory that cannot be read any more
			s.tree.skip()
		}
		return true, err
	}
	if !ok {
		return false, nil
	}
	if n.leave {
		s.leave(n.path + "/")
		return true, nil
	}
	if n.name == ".git" || len(n.path) > maxPath || s.ignored(n) {
		return true, nil
	}
	if n.isDir {
		if s.tree.descend(n) == nil {
			s.scope(n.path+"/", s.tree.levels[len(s.tree.levels)-1].fd)
		}
		return true, nil
	}
	if !s.glob.Match(n.path) {
		return true, nil
	}
	var st syscall.Stat_t
	fd, err := s.f.openAt(n.dir, n.name, n.path, &st)
	if err != nil || st.Size > searchFile {
		if err == nil {
			syscall.Close(fd)
		}
		return true, nil
	}
	return s.open(fd, n.path) != nil, nil
}

// open takes a file to be searched and reads its first block.
func (s *searcher) open(fd int, path string) (err error) {
	s.end, err = sys.ReadFull(fd, s.buf, 0)
	if err == nil && s.end == 0 {
		s.out.FilesSearched++
		err = errNothing
	}
	if err != nil {
		syscall.Close(fd)
		return err
	}
	s.fd, s.path, s.read = fd, path, s.read+int64(s.end)
	return nil
}

var errNothing = errors.New("nothing to search")

// hit takes a line that matches, or counts it.
func (s *searcher) hit(line []byte, from int, number, begin, end int64) {
	if len(s.out.Matches) >= s.limit || s.size > answerMax {
		s.out.Omitted++
		return
	}
	m := Match{Path: s.path, Line: number, Text: pattern.Clip(line, from, maxText)}
	if !utf8.ValidString(s.path) {
		m.Path, m.PathBase64 = strings.ToValidUTF8(s.path, "\uFFFD"), base64.StdEncoding.EncodeToString([]byte(s.path))
	}
	if s.context > 0 {
		_ = s.f.do(s.ctx, s.path, func() error {
			m.Before, m.After = linesBefore(s.fd, begin, s.context), linesAfter(s.fd, end, s.context)
			return nil
		})
	}
	s.size += len(m.Path) + len(m.Text)
	for _, text := range append(m.Before, m.After...) {
		s.size += len(text)
	}
	s.out.Matches = append(s.out.Matches, m)
}
