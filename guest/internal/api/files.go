package api

import (
	"net/http"
	"strconv"

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
	}
	body, err := readFramed(r, &header)
	if err != nil {
		return nil, err
	}
	s.box.Touch()
	defer s.box.Touch()
	written, err := s.box.Files.Write(r.Context(), header.Files, body)
	if err != nil {
		return nil, err
	}
	return map[string]any{"files": written}, nil
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
