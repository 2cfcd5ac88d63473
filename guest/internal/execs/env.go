package execs

import (
	"path"
	"slices"
	"sort"
	"strings"
	"sync"

	"chorus-sandbox/guest/internal/fault"
)

const (
	maxEnvKeys  = 256
	maxEnvBytes = 128 << 10
	// Shorter values are words like 1, yes or dev: no secrets, and replacing them would make commands unreadable.
	minSecret = 5
)

// Env is what every later exec starts with on top of the built-in variables.
type Env struct {
	mu     sync.Mutex
	base   map[string]string
	image  map[string]string
	values map[string]string
}

// NewEnv builds the variables every command gets. imagePath is the PATH the image declares, if it is sane.
func NewEnv(home, user, imagePath string) *Env {
	search := home + "/.local/bin:" + standardPath
	if sanePath(imagePath) {
		search = home + "/.local/bin:" + imagePath
	}
	return &Env{
		base: map[string]string{
			"HOME": home, "USER": user, "LOGNAME": user, "PATH": search, "LANG": "C.UTF-8", "PIP_BREAK_SYSTEM_PACKAGES": "1",
		},
		values: map[string]string{},
	}
}

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func sanePath(value string) bool {
	if value == "" || len(value) > 4096 {
		return false
	}
	for _, dir := range strings.Split(value, ":") {
		if !path.IsAbs(dir) || strings.ContainsAny(dir, "\x00\n") {
			return false
		}
	}
	return true
}

func checkEnv(env map[string]string) error {
	bytes := 0
	for key, value := range env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(value, 0) {
			return fault.New(fault.InvalidArgument, "env: %q is not a usable variable", fault.Clip(key, 64))
		}
		bytes += len(key) + len(value) + 2
	}
	if len(env) > maxEnvKeys || bytes > maxEnvBytes {
		return fault.New(fault.LimitExceeded, "env holds at most %d variables and %d bytes", maxEnvKeys, maxEnvBytes).With("kind", "size")
	}
	return nil
}

// Patch merges and returns the names of the variables that are set now.
func (e *Env) Patch(set map[string]string, unset []string) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	merged := make(map[string]string, len(e.values)+len(set))
	for k, v := range e.values {
		merged[k] = v
	}
	for _, k := range unset {
		delete(merged, k)
	}
	for k, v := range set {
		merged[k] = v
	}
	if err := checkEnv(merged); err != nil {
		return nil, err
	}
	e.values = merged
	keys := make([]string, 0, len(merged))
	for k := range merged {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys, nil
}

// SetImage takes what the image declares for its programs: below what the sandbox and the exec set, and no secret.
func (e *Env) SetImage(env map[string]string) error {
	if err := checkEnv(env); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.image = env
	return nil
}

// compose merges built-in, image, sandbox and exec variables and lists the values that facts must not show.
func (e *Env) compose(own map[string]string, tty bool) (env map[string]string, secrets []string) {
	env = make(map[string]string, 16)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, layer := range []map[string]string{e.base, e.image} {
		for k, v := range layer {
			env[k] = v
		}
	}
	if tty {
		env["TERM"] = "xterm-256color"
	}
	for _, layer := range []map[string]string{e.values, own} {
		for k, v := range layer {
			env[k] = v
			if len(v) >= minSecret {
				secrets = append(secrets, v)
			}
		}
	}
	return env, secrets
}

// Strings is the environment of the guest's own questions to programs.
func (e *Env) Strings() []string {
	env, _ := e.compose(nil, false)
	return flatten(env)
}

func flatten(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// redact replaces the longest values first, so that a value inside another leaves no rest of it.
func redact(text string, secrets []string) string {
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}
