package api

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"time"

	"chorus-sandbox/guest/internal/execs"
	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/spool"
)

type viewHeader struct {
	Exec     execs.Info    `json:"exec"`
	Segments []execs.Piece `json:"segments"`
	Facts    *facts.Page   `json:"facts,omitempty"`

	Matched      *execs.Matched `json:"matched,omitempty"`
	MatchTotal   *int           `json:"match_total,omitempty"`
	MatchPartial bool           `json:"match_partial,omitempty"`
	MatchMore    bool           `json:"match_more,omitempty"`
}

func (s *Server) execStart(w http.ResponseWriter, r *http.Request) (any, error) {
	var req execs.Request
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	e, err := s.box.Execs.Start(r.Context(), r.PathValue("exec_id"), &req)
	if err != nil {
		return nil, err
	}
	return nil, s.writeView(w, r, e, &req.View)
}

func (s *Server) execView(w http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.box.Execs.Get(r.PathValue("exec_id"))
	if err != nil {
		return nil, err
	}
	var view execs.View
	if err := readJSON(r, &view); err != nil {
		return nil, err
	}
	if err := view.Check(); err != nil {
		return nil, err
	}
	return nil, s.writeView(w, r, e, &view)
}

func (s *Server) writeView(w http.ResponseWriter, r *http.Request, e *execs.Exec, view *execs.View) error {
	sight := e.Look(r.Context(), view)
	header := viewHeader{
		Exec: sight.Info, Segments: sight.Pieces,
		Matched: sight.Matched, MatchTotal: sight.MatchTotal, MatchPartial: sight.MatchPartial, MatchMore: sight.MatchMore,
	}
	if view.FactsAfter != nil {
		page := s.box.Facts.After(*view.FactsAfter)
		header.Facts = &page
	}
	data := make([][]byte, len(sight.Pieces))
	for i, p := range sight.Pieces {
		data[i] = p.Data
	}
	return writeFramed(w, header, data...)
}

func (s *Server) execList(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]any{"execs": s.box.Execs.List()}, nil
}

func (s *Server) execKill(_ http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.box.Execs.Get(r.PathValue("exec_id"))
	if err != nil {
		return nil, err
	}
	var req execs.KillRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if err := s.box.Execs.Kill(r.Context(), e, &req); err != nil {
		return nil, err
	}
	e.Recount()
	return map[string]any{"exec": e.Info()}, nil
}

func (s *Server) execStdin(_ http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.box.Execs.Get(r.PathValue("exec_id"))
	if err != nil {
		return nil, err
	}
	wait, err := number(r, "wait_ms", 0)
	if err != nil {
		return nil, err
	}
	patience := time.Duration(min(wait, 10*60*1000)) * time.Millisecond
	n, err := s.box.Execs.Input(r.Context(), e, r.Body, r.URL.Query().Get("eof") == "1", patience)
	if err != nil {
		f := *fault.Of(err)
		f.Details = nil
		return nil, f.With("accepted_bytes", n)
	}
	return map[string]any{"accepted_bytes": n}, nil
}

func (s *Server) execResize(_ http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.box.Execs.Get(r.PathValue("exec_id"))
	if err != nil {
		return nil, err
	}
	var size execs.Window
	if err := readJSON(r, &size); err != nil {
		return nil, err
	}
	if err := size.Check(); err != nil {
		return nil, err
	}
	return struct{}{}, e.Resize(size)
}

// Types of the frames of a stream.
const (
	frameStdout = 1
	frameStderr = 2
	frameEnd    = 3
	frameHead   = 13
	frameMax    = 128 << 10
)

// execStream follows both streams. The writer goes at the reader's pace; one that does not move loses what the spool drops meanwhile.
func (s *Server) execStream(w http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.box.Execs.Get(r.PathValue("exec_id"))
	if err != nil {
		return nil, err
	}
	var offsets [2]int64
	for i, name := range []string{"stdout_offset", "stderr_offset"} {
		if offsets[i], err = number(r, name, 0); err != nil {
			return nil, err
		}
	}
	sources := []*spool.Spool{e.Stdout(), e.Stderr()}
	following := make([]*execs.Follower, len(sources))
	for i, source := range sources {
		following[i] = e.Follow(source, offsets[i])
		defer following[i].Close()
	}
	// Whoever has the head of the answer follows already.
	w.Header().Set("content-type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	if err := flush(); err != nil {
		return nil, err
	}
	buf := make([]byte, frameHead+frameMax)
	for {
		changed, ended := e.Changed(), e.Ended()
		moved := false
		more := false
		for i, source := range sources {
			n, at := source.ReadAt(buf[frameHead:], offsets[i])
			if n == 0 {
				continue
			}
			moved, more = true, more || n == frameMax
			offsets[i] = at + int64(n)
			if _, err := w.Write(frame(buf, byte(frameStdout+i), at, n)); err != nil {
				return nil, err
			}
			following[i].Reached(offsets[i])
		}
		if ended && !moved {
			break
		}
		if moved && !more {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		if moved {
			continue
		}
		select {
		case <-changed:
		case <-e.Done():
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	info, err := json.Marshal(e.Info())
	if err != nil {
		return nil, err
	}
	end := append(make([]byte, frameHead), info...)
	_, err = w.Write(frame(end, frameEnd, 0, len(info)))
	return nil, err
}

func frame(buf []byte, kind byte, offset int64, n int) []byte {
	buf[0] = kind
	binary.BigEndian.PutUint64(buf[1:], uint64(offset))
	binary.BigEndian.PutUint32(buf[9:], uint32(n))
	return buf[:frameHead+n]
}

func (s *Server) facts(_ http.ResponseWriter, r *http.Request) (any, error) {
	after, err := number(r, "after", 0)
	if err != nil {
		return nil, err
	}
	wait, err := number(r, "wait_ms", 0)
	if err != nil {
		return nil, err
	}
	wait = min(wait, 10*60*1000)
	return s.box.Facts.Wait(r.Context(), uint64(after), time.Duration(wait)*time.Millisecond), nil
}
