package execs

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/pattern"
)

// Window is the size of a terminal.
type Window struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Check refuses sizes no terminal has.
func (w Window) Check() error {
	if w.Rows < 1 || w.Cols < 1 || w.Rows > 4096 || w.Cols > 4096 {
		return fault.New(fault.InvalidArgument, "rows and cols of a terminal are 1 to 4096")
	}
	return nil
}

// Request says what to run.
type Request struct {
	Argv        []string          `json:"argv"`
	Command     *string           `json:"command"`
	Cwd         string            `json:"cwd"`
	Env         map[string]string `json:"env"`
	Stdin       string            `json:"stdin"`
	StdinBase64 string            `json:"stdin_base64"`
	KeepStdin   bool              `json:"keep_stdin"`
	Tty         *Window           `json:"tty"`
	MergeStderr bool              `json:"merge_stderr"`
	TimeoutMs   *int64            `json:"timeout_ms"`
	Meta        json.RawMessage   `json:"meta"`
	View        View              `json:"view"`
}

// View says what to wait for and how much output to answer with.
type View struct {
	WaitMs       int64   `json:"wait_ms"`
	Until        string  `json:"until"`
	StdoutOffset int64   `json:"stdout_offset"`
	StderrOffset int64   `json:"stderr_offset"`
	MaxBytes     *int64  `json:"max_bytes"`
	FactsAfter   *uint64 `json:"facts_after"`
	UntilMatch   *string `json:"until_match"`
	TailLines    *int64  `json:"tail_lines"`
	Match        *string `json:"match"`

	untilMatch, match *pattern.Pattern // after Check
}

const (
	maxMeta      = 2 << 10
	maxViewBytes = 1 << 20
	maxWait      = 10 * time.Minute
	maxTimeout   = 366 * 24 * time.Hour
)

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckID refuses ids that could not stand in a path or a subject.
func CheckID(id string) error {
	if !idForm.MatchString(id) {
		return fault.New(fault.InvalidArgument, "exec_id is 1 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// Check bounds a view and compiles its patterns.
func (v *View) Check() error {
	if v.Until != "" && v.Until != "exit" && v.Until != "output" {
		return fault.New(fault.InvalidArgument, "until is exit or output")
	}
	if v.WaitMs < 0 || v.StdoutOffset < 0 || v.StderrOffset < 0 || v.MaxBytes != nil && *v.MaxBytes < 0 {
		return fault.New(fault.InvalidArgument, "wait_ms, offsets and max_bytes are not negative")
	}
	if v.TailLines != nil && *v.TailLines < 1 {
		return fault.New(fault.InvalidArgument, "tail_lines is 1 or more")
	}
	for _, p := range []struct {
		name string
		text *string
		into **pattern.Pattern
	}{{"until_match", v.UntilMatch, &v.untilMatch}, {"match", v.Match, &v.match}} {
		if p.text == nil {
			continue
		}
		var err error
		if *p.into, err = pattern.Compile(*p.text, false); err != nil {
			return fault.New(fault.InvalidArgument, "%s: %s", p.name, fault.Of(err).Message)
		}
	}
	return nil
}

func (v *View) wait() time.Duration {
	if v.WaitMs > maxWait.Milliseconds() {
		return maxWait
	}
	return time.Duration(v.WaitMs) * time.Millisecond
}

func (v *View) maxBytes() int64 {
	if v.MaxBytes == nil {
		return 16 << 10
	}
	return min(*v.MaxBytes, maxViewBytes)
}

// Check refuses what cannot be started whatever the sandbox looks like, and decodes stdin.
func (r *Request) Check() (stdin []byte, err error) {
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fault.New(fault.InvalidArgument, format, args...)
	}
	switch {
	case (r.Command != nil) == (len(r.Argv) > 0):
		return bad("exactly one of command and argv is needed")
	case len(r.Argv) > 0 && r.Argv[0] == "":
		return bad("argv[0] names the program and must not be empty")
	case len(r.Meta) > maxMeta:
		return bad("meta is larger than %d bytes", maxMeta)
	case r.Stdin != "" && r.StdinBase64 != "":
		return bad("stdin and stdin_base64 exclude each other")
	case r.TimeoutMs != nil && (*r.TimeoutMs < 1 || *r.TimeoutMs > maxTimeout.Milliseconds()):
		return bad("timeout_ms is 1 to %d", maxTimeout.Milliseconds())
	case strings.ContainsRune(r.Cwd, 0):
		return bad("cwd contains a NUL character")
	}
	for _, text := range append([]string{r.commandLine()}, r.Argv...) {
		if strings.ContainsRune(text, 0) {
			return bad("the command contains a NUL character")
		}
	}
	if err := checkEnv(r.Env); err != nil {
		return nil, err
	}
	if r.Tty != nil {
		if err := r.Tty.Check(); err != nil {
			return nil, err
		}
	}
	if r.StdinBase64 != "" {
		if stdin, err = base64.StdEncoding.DecodeString(r.StdinBase64); err != nil {
			return bad("stdin_base64 is not base64")
		}
		return stdin, r.View.Check()
	}
	return []byte(r.Stdin), r.View.Check()
}

func (r *Request) commandLine() string {
	if r.Command != nil {
		return *r.Command
	}
	return ""
}

// summary is the command as facts tell it: the values of the environment replaced, then cut.
func (r *Request) summary(secrets []string) string {
	text := r.commandLine()
	if r.Command == nil {
		words := make([]string, len(r.Argv))
		for i, word := range r.Argv {
			words[i] = quote(word)
		}
		text = strings.Join(words, " ")
	}
	return clipRunes(redact(text, secrets), 256)
}

func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n'\"\\$`&|;<>()*?[]{}~#!") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func clipRunes(s string, n int) string {
	cut, count := len(s), 0
	for i := range s {
		if count == n-1 {
			cut = i
		}
		count++
	}
	if count <= n {
		return s
	}
	return s[:cut] + "…"
}

func resolveDir(workdir, cwd string) string {
	switch {
	case cwd == "":
		return workdir
	case filepath.IsAbs(cwd):
		return filepath.Clean(cwd)
	}
	return filepath.Join(workdir, cwd)
}

// toldDir is the directory as facts tell it. A value that is a part of the workdir's own name, as of PYTHONPATH, hides nothing.
func toldDir(dir, workdir string, secrets []string) string {
	known := func(value string) bool { return strings.Contains(workdir, value) }
	return redact(dir, slices.DeleteFunc(slices.Clone(secrets), known))
}
