package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/files"
	"chorus-sandbox/guest/internal/sandbox"
)

// busyEvery is how often work that goes on counts as activity.
const busyEvery = 500 * time.Millisecond

// busy counts as activity until the function it returns is called.
func (s *Server) busy() (done func()) {
	s.box.Touch()
	over := make(chan struct{})
	go func() {
		ticker := time.NewTicker(busyEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.box.Touch()
			case <-over:
				return
			}
		}
	}()
	return func() {
		close(over)
		s.box.Touch()
	}
}

func (s *Server) fileSearch(_ http.ResponseWriter, r *http.Request) (any, error) {
	var req files.SearchRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	defer s.busy()()
	found, err := s.box.Files.Search(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (s *Server) fileManage(_ http.ResponseWriter, r *http.Request) (any, error) {
	var req struct {
		files.ManageRequest
		Tell *facts.Tell `json:"tell"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if err := req.Tell.Check(); err != nil {
		return nil, err
	}
	if s.box.Paused() {
		return nil, sandbox.ErrPaused
	}
	defer s.busy()()
	var managed *files.Managed
	var err error
	s.box.Watch.WhileWriting(func() {
		managed, err = s.box.Files.Manage(r.Context(), req.ManageRequest)
		s.box.Facts.Changed(req.Tell, managedChanges(&req.ManageRequest, managed, err))
	})
	if err != nil {
		return nil, err
	}
	return struct {
		*files.Managed
		Facts *facts.Page `json:"facts,omitempty"`
	}{managed, s.factsFor(req.Tell)}, nil
}

// managedChanges are those that were made, also where the rest of them failed.
func managedChanges(req *files.ManageRequest, managed *files.Managed, failed error) []facts.Change {
	switch {
	case managed == nil || managed.Entries == 0:
		return nil
	case req.Op != "move" || path.Clean(*req.Dest) == path.Clean(req.Path):
		return []facts.Change{{Path: managed.Path, Op: req.Op}}
	case failed != nil: // what it was copied from is still there, or part of it
		return []facts.Change{{Path: managed.Path, Op: "copy"}}
	}
	return []facts.Change{{Path: managed.Path, Op: req.Op}, {Path: req.Path, Op: "delete"}}
}

// progress counts what moves as activity.
type progress struct {
	touch func()
	last  time.Time
}

func (p *progress) moved() {
	if now := time.Now(); now.Sub(p.last) > busyEvery {
		p.last = now
		p.touch()
	}
}

type busyReader struct {
	io.Reader
	progress
}

func (r *busyReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.moved()
	return n, err
}

type busyWriter struct {
	http.ResponseWriter
	progress
	begun bool
}

func (w *busyWriter) Write(p []byte) (int, error) {
	w.begun = true
	n, err := w.ResponseWriter.Write(p)
	w.moved()
	return n, err
}

func (s *Server) tarPut(_ http.ResponseWriter, r *http.Request) (any, error) {
	if s.box.Paused() {
		return nil, sandbox.ErrPaused
	}
	defer s.box.Touch()
	body := &busyReader{r.Body, progress{touch: s.box.Touch}}
	var extracted *files.Extracted
	var err error
	s.box.Watch.WhileWriting(func() {
		extracted, err = s.box.Files.Extract(r.Context(), r.URL.Query().Get("path"), body)
	})
	if err != nil {
		return nil, err
	}
	return extracted, nil
}

// leftOutTrailer tells, behind the archive, what is not in it.
const leftOutTrailer = "guest-left-out"

func (s *Server) tarGet(w http.ResponseWriter, r *http.Request) (any, error) {
	defer s.box.Touch()
	q := r.URL.Query()
	out := &busyWriter{ResponseWriter: w, progress: progress{touch: s.box.Touch}}
	w.Header().Set("content-type", "application/x-tar")
	req := files.ArchiveRequest{Path: q.Get("path"), Include: q["include"], Exclude: q["exclude"]}
	leftOut, err := s.box.Files.Archive(r.Context(), req, out)
	switch {
	case err != nil && out.begun:
		log.Printf("the archive of %s is incomplete: %v", fault.Clip(req.Path, 128), err)
		panic(http.ErrAbortHandler)
	case err != nil:
		return nil, err
	}
	if leftOut.Total > 0 {
		text, err := json.Marshal(leftOut)
		if err != nil {
			return nil, err
		}
		w.Header().Set(http.TrailerPrefix+leftOutTrailer, ascii(string(text)))
	}
	return nil, nil
}

// ascii escapes what a header field cannot hold, in a way JSON understands.
func ascii(text string) string {
	var b strings.Builder
	for _, c := range text {
		if c < utf8.RuneSelf {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.Encode([]rune{c}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
