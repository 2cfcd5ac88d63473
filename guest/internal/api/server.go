// Package api speaks the guest's protocol, which API.md describes.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sandbox"
)

const (
	maxJSON    = 16 << 20
	maxHeader  = 1 << 20
	framedType = "application/vnd.chorus.framed"
	jsonType   = "application/json"
	socketName = "guest.sock"
)

// Server answers on the unix socket in the run directory.
type Server struct {
	box      *sandbox.Sandbox
	http     *http.Server
	listener net.Listener
}

// Listen opens the socket.
func Listen(box *sandbox.Sandbox) (*Server, error) {
	name := filepath.Join(box.Run, socketName)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	s := &Server{box: box, listener: ownUser{listener}}
	s.http = &http.Server{
		Handler:        s.routes(),
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       log.New(os.Stderr, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 4096,
			// One connection carries everything: with a small window a dozen stalled uploads would block it all.
			MaxReceiveBufferPerConnection: 1 << 30,
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReadFrameSize:              256 << 10,
		},
	}
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	return s, nil
}

// Serve answers until Close.
func (s *Server) Serve() error { return s.http.Serve(s.listener) }

// Close lets answers that are under way finish for a moment.
func (s *Server) Close(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = s.http.Shutdown(ctx)
}

// ownUser accepts connections only from the guest's own user, whatever the permissions of the socket became.
type ownUser struct{ net.Listener }

func (l ownUser) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, err := peerUid(conn); err == nil && peer == os.Geteuid() {
			return conn, nil
		}
		conn.Close()
	}
}

func peerUid(conn net.Conn) (int, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, errors.New("not a unix socket")
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var failed error
	err = raw.Control(func(fd uintptr) {
		var cred *syscall.Ucred
		if cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); failed == nil {
			uid = int(cred.Uid)
		}
	})
	return uid, errors.Join(err, failed)
}

// handler is a request whose answer is JSON, or written already when the value is nil.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/health":                  s.health,
		"PUT /v1/lease":                   s.lease,
		"PATCH /v1/env":                   s.env,
		"GET /v1/programs":                s.programs,
		"GET /v1/facts":                   s.facts,
		"GET /v1/stats":                   s.stats,
		"PATCH /v1/limits":                s.limits,
		"POST /v1/pause":                  s.pause,
		"POST /v1/resume":                 s.resume,
		"POST /v1/shutdown":               s.shutdown,
		"GET /v1/execs":                   s.execList,
		"POST /v1/execs/{exec_id}":        s.execStart,
		"POST /v1/execs/{exec_id}/view":   s.execView,
		"GET /v1/execs/{exec_id}/stream":  s.execStream,
		"POST /v1/execs/{exec_id}/kill":   s.execKill,
		"POST /v1/execs/{exec_id}/stdin":  s.execStdin,
		"POST /v1/execs/{exec_id}/resize": s.execResize,
		"GET /v1/files/read":              s.fileRead,
		"POST /v1/files/write":            s.fileWrite,
		"GET /v1/files/list":              s.fileList,
		"GET /v1/files/stat":              s.fileStat,
		"POST /v1/files/search":           s.fileSearch,
		"POST /v1/files/manage":           s.fileManage,
		"PUT /v1/files/tar":               s.tarPut,
		"GET /v1/files/tar":               s.tarGet,
	} {
		mux.HandleFunc(pattern, answer(h))
	}
	mux.HandleFunc("/", answer(func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return nil, fault.New(fault.InvalidArgument, "no such endpoint: %s %s", r.Method, fault.Clip(r.URL.Path, 128))
	}))
	return mux
}

// answer turns results, faults and panics into responses: nothing a request does ends the guest.
func answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("guest-api", "1")
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				log.Printf("%s %s: %v\n%s", r.Method, r.URL.Path, p, debug.Stack())
				writeFault(w, fault.New(fault.Internal, "the guest failed on this request"))
			}
		}()
		value, err := h(w, r)
		switch {
		case err != nil && r.Context().Err() != nil:
			panic(http.ErrAbortHandler) // nobody waits for the answer
		case err != nil:
			writeFault(w, fault.Of(err))
		case value != nil:
			writeJSON(w, http.StatusOK, value)
		}
	}
}

func writeFault(w http.ResponseWriter, f *fault.Error) {
	body := map[string]any{"code": f.Code, "message": f.Message}
	for name, value := range f.Details {
		body[name] = value
	}
	writeJSON(w, f.Status(), body)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"code":"INTERNAL","message":"the answer cannot be written"}`)
	}
	w.Header().Set("content-type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// readJSON decodes a bounded body. An empty one is an empty object.
func readJSON(r *http.Request, into any) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxJSON+1))
	if err != nil {
		return err
	}
	if len(text) > maxJSON {
		return fault.New(fault.LimitExceeded, "the request is larger than %d bytes", maxJSON).With("kind", "size")
	}
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fault.New(fault.InvalidArgument, "the request is not the JSON that is expected: %v", err)
	}
	return nil
}
