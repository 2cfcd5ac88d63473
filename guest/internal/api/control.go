package api

import (
	"net/http"
	"os"
	"runtime"
	"time"

	"chorus-sandbox/guest/internal/facts"
	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/lease"
	"chorus-sandbox/guest/internal/sandbox"
)

type counts struct {
	Running int `json:"running"`
	Total   int `json:"total"`
}

func (s *Server) counts() counts {
	running, total := s.box.Execs.Counts()
	return counts{running, total}
}

func (s *Server) health(http.ResponseWriter, *http.Request) (any, error) {
	state := "running"
	if s.box.Paused() {
		state = "paused"
	}
	oldest, next := s.box.Facts.Range()
	return map[string]any{
		"api": sandbox.API, "version": s.box.Version, "sandbox_id": s.box.ID, "pid": os.Getpid(),
		"started_at": facts.Stamp(s.box.StartedAt()), "uptime_ms": s.box.Uptime().Milliseconds(), "uid": s.box.User().Uid,
		"workdir": s.box.Workdir, "shell": s.box.Shell, "arch": runtime.GOARCH, "state": state, "lease": s.box.Lease.View(),
		"facts": map[string]uint64{"oldest": oldest, "next": next}, "execs": s.counts(),
	}, nil
}

const (
	maxLease = 366 * 24 * time.Hour
	maxClaim = 64
)

func (s *Server) lease(_ http.ResponseWriter, r *http.Request) (any, error) {
	var req struct {
		TTLMs  *int64 `json:"ttl_ms"`
		IdleMs *int64 `json:"idle_ms"`
		BootMs *int64 `json:"boot_ms"`
		Claim  string `json:"claim"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	span := func(ms *int64) (*time.Duration, error) {
		if ms == nil {
			return nil, nil
		}
		if *ms < 1 || *ms > maxLease.Milliseconds() {
			return nil, fault.New(fault.InvalidArgument, "ttl_ms, idle_ms and boot_ms are 1 to %d", maxLease.Milliseconds())
		}
		d := time.Duration(*ms) * time.Millisecond
		return &d, nil
	}
	ttl, err := span(req.TTLMs)
	if err != nil {
		return nil, err
	}
	idle, err := span(req.IdleMs)
	if err != nil {
		return nil, err
	}
	boot, err := span(req.BootMs)
	if err != nil {
		return nil, err
	}
	if len(req.Claim) > maxClaim {
		return nil, fault.New(fault.InvalidArgument, "claim has at most %d bytes", maxClaim)
	}
	return s.box.Lease.Change(lease.Change{TTL: ttl, Idle: idle, Boot: boot, Claim: req.Claim})
}

func (s *Server) env(_ http.ResponseWriter, r *http.Request) (any, error) {
	var req struct {
		Set   map[string]string `json:"set"`
		Unset []string          `json:"unset"`
		Image map[string]string `json:"image"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if req.Image != nil {
		if err := s.box.Env.SetImage(req.Image); err != nil {
			return nil, err
		}
	}
	keys, err := s.box.Env.Patch(req.Set, req.Unset)
	if err != nil {
		return nil, err
	}
	return map[string]any{"keys": keys}, nil
}

func (s *Server) programs(_ http.ResponseWriter, r *http.Request) (any, error) {
	if s.box.Paused() {
		return nil, sandbox.ErrPaused
	}
	found, err := s.box.Programs.Find(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"programs": found}, nil
}

func (s *Server) stats(http.ResponseWriter, *http.Request) (any, error) {
	sample := s.box.Stats.Sample(s.box.Uptime())
	sample.Execs.Running, sample.Execs.Total = s.box.Execs.Counts()
	return sample, nil
}

// limits takes what the server changed through the engine and commands must respect.
func (s *Server) limits(_ http.ResponseWriter, r *http.Request) (any, error) {
	var req struct {
		Pids *uint64 `json:"pids"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if req.Pids != nil {
		if *req.Pids < 2 {
			return nil, fault.New(fault.InvalidArgument, "pids is 2 or more")
		}
		if err := s.box.LimitProcesses(*req.Pids); err != nil {
			return nil, err
		}
	}
	return struct{}{}, nil
}

func (s *Server) pause(w http.ResponseWriter, r *http.Request) (any, error) {
	return s.change(w, r, s.box.Pause)
}

func (s *Server) resume(w http.ResponseWriter, r *http.Request) (any, error) {
	return s.change(w, r, s.box.Resume)
}

func (s *Server) change(w http.ResponseWriter, r *http.Request, do func(*facts.Tell)) (any, error) {
	var req struct {
		Tell *facts.Tell `json:"tell"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if err := req.Tell.Check(); err != nil {
		return nil, err
	}
	do(req.Tell)
	return s.health(w, r)
}

func (s *Server) shutdown(w http.ResponseWriter, r *http.Request) (any, error) {
	var req struct {
		Reason string `json:"reason"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	_ = http.NewResponseController(w).Flush()
	s.box.Shutdown(req.Reason)
	return nil, nil
}
