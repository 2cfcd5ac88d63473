package api

import (
	"net/http"
	"strconv"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/files"
	"chorus-sandbox/guest/internal/sandbox"
)

// number reads a query parameter that is not negative.
func number(r *http.Request, name string, missing int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.InvalidArgument, "%s is a number of 0 or more", name)
	}
	return n, nil
}

func (s *Server) fileRead(w http.ResponseWriter, r *http.Request) (any, error) {
	req := files.ReadRequest{Path: r.URL.Query().Get("path")}
	var err error
	for _, p := range []struct {
		name    string
		missing int64
		into    *int64
	}{
		{"offset", 0, &req.Offset}, {"max_bytes", files.DefaultRead, &req.MaxBytes},
		{"line_start", 0, &req.LineStart}, {"line_end", 0, &req.LineEnd},
	} {
		if *p.into, err = number(r, p.name, p.missing); err != nil {
			return nil, err
		}
	}
	s.box.Touch()
	header, content, err := s.box.Files.Read(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return nil, writeFramed(w, header, content)
}

func (s *Server) fileWrite(_ http.ResponseWriter, r *http.Request) (any, error) {
	if s.box.Paused() {
		return nil, sandbox.ErrPaused
	}
	var header struct {
		Files []files.WriteFile `json:"files"`
		Tell  *facts.Tell       `json:"tell"`
	}
	body, err := readFramed(r, &header)
	if err != nil {
		return nil, err
	}
	if err := header.Tell.Check(); err != nil {
		return nil, err
	}
	s.box.Touch()
	defer s.box.Touch()
	var written []files.Written
	s.box.Watch.WhileWriting(func() {
		written, err = s.box.Files.Write(r.Context(), header.Files, body)
		// Also when the rest failed: these have changed.
		s.box.Facts.Changed(header.Tell, writtenChanges(header.Tell, written))
	})
	if err != nil {
		return nil, err
	}
	return struct {
		Files []files.Written `json:"files"`
		Facts *facts.Page     `json:"facts,omitempty"`
	}{written, s.factsFor(header.Tell)}, nil
}

func writtenChanges(t *facts.Tell, written []files.Written) []facts.Change {
	changes := make([]facts.Change, 0, len(written))
	for i := range written {
		op := "write"
		switch {
		case written[i].Created:
			op = "create"
		case t != nil && t.Op != "":
			op = t.Op
		}
		changes = append(changes, facts.Change{Path: written[i].Path, Op: op, SizeBytes: &written[i].SizeBytes})
	}
	return changes
}

// factsFor are those that go along with the answer to a change, for whoever asked for them.
func (s *Server) factsFor(t *facts.Tell) *facts.Page {
	if t == nil || t.FactsAfter == nil {
		return nil
	}
	page := s.box.Facts.After(*t.FactsAfter)
	return &page
}

func (s *Server) fileList(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	req := files.ListRequest{Path: q.Get("path"), Glob: q.Get("glob"), Cursor: q.Get("cursor")}
	if req.Path == "" {
		req.Path = "."
	}
	depth, err := number(r, "depth", 1)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", files.DefaultList)
	if err != nil {
		return nil, err
	}
	req.Depth, req.Limit = int(min(depth, 1<<20)), int(min(limit, files.MaxList))
	s.box.Touch()
	listing, err := s.box.Files.List(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return listing, nil
}

func (s *Server) fileStat(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.box.Touch()
	stat, err := s.box.Files.Stat(r.Context(), r.URL.Query().Get("path"))
	if err != nil {
		return nil, err
	}
	return stat, nil
}
