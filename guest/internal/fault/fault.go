// Package fault is the one error type that crosses from the work of the guest to its API.
package fault

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
)

// Code is one of the closed set of error codes of API.md.
type Code string

const (
	InvalidArgument  Code = "INVALID_ARGUMENT"
	FileNotFound     Code = "FILE_NOT_FOUND"
	ExecNotFound     Code = "EXEC_NOT_FOUND"
	PermissionDenied Code = "PERMISSION_DENIED"
	FileConflict     Code = "FILE_CONFLICT"
	FileInvalid      Code = "FILE_INVALID"
	ExecNotStarted   Code = "EXEC_NOT_STARTED"
	ExecEnded        Code = "EXEC_ENDED"
	LimitExceeded    Code = "LIMIT_EXCEEDED"
	Paused           Code = "PAUSED"
	Claimed          Code = "CLAIMED"
	Ending           Code = "ENDING"
	Internal         Code = "INTERNAL"
)

var statuses = map[Code]int{
	InvalidArgument:  http.StatusBadRequest,
	FileNotFound:     http.StatusNotFound,
	ExecNotFound:     http.StatusNotFound,
	PermissionDenied: http.StatusForbidden,
	FileConflict:     http.StatusConflict,
	FileInvalid:      http.StatusUnprocessableEntity,
	ExecNotStarted:   http.StatusUnprocessableEntity,
	ExecEnded:        http.StatusConflict,
	LimitExceeded:    http.StatusTooManyRequests,
	Paused:           http.StatusConflict,
	Claimed:          http.StatusConflict,
	Ending:           http.StatusConflict,
	Internal:         http.StatusInternalServerError,
}

// Error says what went wrong in words an agent can act on.
type Error struct {
	Code    Code
	Message string
	Details map[string]any
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Status is the HTTP status that belongs to the code.
func (e *Error) Status() int {
	if e.Code == LimitExceeded && e.Details["kind"] == "workspace" {
		return http.StatusInsufficientStorage
	}
	return statuses[e.Code]
}

// With adds a detail and returns the error itself.
func (e *Error) With(key string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[key] = value
	return e
}

// New makes an error from a format string.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Of finds the fault in err, or wraps err as an internal one.
func Of(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return New(Internal, "%v", err)
}

// File turns an error of a file operation into a fault that names the path as the caller wrote it.
func File(path string, err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	var no syscall.Errno
	if !errors.As(err, &no) {
		return New(Internal, "%s: %v", path, err)
	}
	switch no {
	case syscall.ENOENT:
		return New(FileNotFound, "%s: no such file or directory", path)
	case syscall.EACCES, syscall.EPERM:
		return New(PermissionDenied, "%s: permission denied for the sandbox's user", path)
	case syscall.EROFS:
		return New(PermissionDenied, "%s: read-only file system; write below the workdir or /tmp", path)
	case syscall.ENOSPC, syscall.EDQUOT:
		return New(LimitExceeded, "%s: no space left on this file system", path).With("kind", "workspace")
	case syscall.EEXIST, syscall.ENOTEMPTY:
		return New(FileConflict, "%s: already exists", path)
	case syscall.ENOTDIR:
		return New(FileInvalid, "%s: a part of the path is not a directory", path).With("kind", "not_dir")
	case syscall.EISDIR:
		return New(FileInvalid, "%s: is a directory", path).With("kind", "dir")
	case syscall.ELOOP:
		return New(FileInvalid, "%s: too many symbolic links", path).With("kind", "symlink")
	case syscall.ENAMETOOLONG:
		return New(InvalidArgument, "%s: the path is too long", Clip(path, 80))
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM:
		return New(LimitExceeded, "%s: %v", path, no).With("kind", "size")
	case syscall.EBUSY:
		return New(FileInvalid, "%s: is in use by the system, as a mount point is", path).With("kind", "busy")
	case syscall.ENXIO, syscall.ENODEV, syscall.ETXTBSY:
		return New(FileInvalid, "%s: %v", path, no).With("kind", "special")
	}
	return New(Internal, "%s: %v", path, no)
}

// Clip shortens s to at most n bytes for use inside a message.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
