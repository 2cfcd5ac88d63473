// Package programs asks the image's well-known programs for their versions.
package programs

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"chorus-sandbox/guest/internal/proc"
)

var questions = []struct {
	name string
	args []string
}{
	{"python3", []string{"--version"}}, {"pip", []string{"--version"}}, {"node", []string{"--version"}},
	{"npm", []string{"--version"}}, {"git", []string{"--version"}}, {"bash", []string{"--version"}},
	{"gcc", []string{"--version"}}, {"make", []string{"--version"}}, {"rg", []string{"--version"}},
	{"curl", []string{"--version"}}, {"go", []string{"version"}}, {"cargo", []string{"--version"}},
	{"java", []string{"-version"}}, {"ruby", []string{"--version"}}, {"perl", []string{"-e", "print $^V"}},
}

const (
	patience = 2 * time.Second
	atOnce   = 4
	maxSaid  = 4 << 10
)

var version = regexp.MustCompile(`\d+(?:\.\d+)+[0-9A-Za-z.+_-]*`)

// Finder remembers the answers; the image does not change while the sandbox lives.
type Finder struct {
	Spawner *proc.Spawner
	Reaper  *proc.Reaper
	Env     func() []string
	Gid     func() int
	GidLow  int
	Workdir string
	DevNull uintptr
	AsUser  func(context.Context, func()) error

	mu    sync.Mutex
	found map[string]string
}

// Find returns name → version of what is there.
func (f *Finder) Find(ctx context.Context) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found != nil {
		return f.found, nil
	}
	paths, err := f.locate(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, q := range questions {
		path, ok := paths[q.name]
		if !ok {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			if v := version.FindString(f.ask(path, q.name, q.args)); v != "" {
				mu.Lock()
				found[q.name] = v
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if err := f.Spawner.Refusing(); err != nil {
		return nil, err // not all could be asked
	}
	f.found = found
	return found, nil
}

func (f *Finder) locate(ctx context.Context) (map[string]string, error) {
	paths := map[string]string{}
	var dirs []string
	for _, variable := range f.Env() {
		if list, ok := strings.CutPrefix(variable, "PATH="); ok {
			dirs = filepath.SplitList(list)
		}
	}
	err := f.AsUser(ctx, func() {
		for _, q := range questions {
			for _, dir := range dirs {
				var st syscall.Stat_t
				path := filepath.Join(dir, q.name)
				if syscall.Stat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG && st.Mode&0o111 != 0 {
					paths[q.name] = path
					break
				}
			}
		}
	})
	return paths, err
}

// ask runs one program. It is the image's, so it is ended with its tree and what it says is bounded.
func (f *Finder) ask(path, name string, args []string) string {
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC) != nil {
		return ""
	}
	_ = syscall.SetNonblock(fds[0], true)
	out := os.NewFile(uintptr(fds[0]), "version")
	defer out.Close()
	gid := f.Gid()
	child, err := f.Spawner.Start(proc.Spec{
		Path: path, Argv: append([]string{name}, args...), Env: f.Env(), Dir: f.Workdir, Gid: gid,
		Files: [3]uintptr{f.DevNull, uintptr(fds[1]), uintptr(fds[1])},
	})
	syscall.Close(fds[1])
	if err != nil {
		return ""
	}
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = out.SetReadDeadline(time.Now().Add(patience))
	said, _ := io.ReadAll(io.LimitReader(out, maxSaid))
	select {
	case <-child.Done():
	case <-limit.Done():
	}
	if !f.Reaper.Childless() {
		end, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		f.Reaper.Kill(end, proc.Tree(child.Pid, gid, f.GidLow))
	}
	return string(said)
}
