package api

import (
	"net/http"
	"time"

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
	var req files.ManageRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if s.box.Paused() {
		return nil, sandbox.ErrPaused
	}
	defer s.busy()()
	managed, err := s.box.Files.Manage(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return managed, nil
}
