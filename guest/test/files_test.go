package test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type file struct {
	path, content string
	more          object
}

func body(files ...file) io.Reader {
	var specs []object
	var contents strings.Builder
	for _, f := range files {
		spec := object{"path": f.path, "len": len(f.content)}
		for k, v := range f.more {
			spec[k] = v
		}
		specs = append(specs, spec)
		contents.WriteString(f.content)
	}
	header, _ := json.Marshal(object{"files": specs})
	return strings.NewReader(string(header) + "\n" + contents.String())
}

func (g *guest) write(files ...file) (int, object) {
	g.t.Helper()
	status, data := g.raw("POST", "/v1/files/write", body(files...))
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		g.t.Fatalf("%v in %q", err, data)
	}
	return status, out
}

func (g *guest) wrote(files ...file) []object {
	g.t.Helper()
	status, out := g.write(files...)
	if status != 200 {
		g.t.Fatalf("%d %v", status, out)
	}
	return list(out["files"])
}

func (g *guest) read(query string) (object, string) {
	g.t.Helper()
	status, data := g.raw("GET", "/v1/files/read?"+query, nil)
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var header object
	if err := json.Unmarshal(line, &header); err != nil {
		g.t.Fatal(err)
	}
	if status != 200 {
		header["refused"] = header["code"]
	}
	return header, string(rest)
}

func TestWriteReadAndConditions(t *testing.T) {
	g := serve(t)
	first := g.wrote(file{"a/b/c.txt", "hello", nil}, file{"run.sh", "#!/bin/sh\necho hi\n", object{"mode": "0755"}})
	if first[0]["created"] != true || first[0]["size_bytes"] != 5.0 {
		t.Errorf("%v", first)
	}
	if out := g.run("./run.sh; stat -c '%a %u' a run.sh a/b/c.txt").out["stdout"]; out != fmt.Sprintf("hi\n755 %[1]d\n755 %[1]d\n644 %[1]d\n", g.uid) {
		t.Errorf("%q", out)
	}
	g.run("chmod 600 a/b/c.txt")
	etag := g.ok("GET", "/v1/files/stat?path=a/b/c.txt", nil)["etag"]
	if status, out := g.write(file{"a/b/c.txt", "stale", object{"if_match": first[0]["etag"]}}); status != 409 || out["code"] != "FILE_CONFLICT" {
		t.Errorf("%d %v", status, out)
	}
	second := g.wrote(file{"a/b/c.txt", "other", object{"if_match": etag}})
	if second[0]["created"] != false || second[0]["etag"] == etag {
		t.Errorf("%v", second)
	}
	if out := g.run("stat -c %a a/b/c.txt").out["stdout"]; out != "600\n" {
		t.Errorf("mode was not kept: %s", out)
	}
	for path, want := range map[string]int{"a/b/c.txt": 409, "new.txt": 200} {
		if status, out := g.write(file{path, "x", object{"if_match": ""}}); status != want {
			t.Errorf("%s: %d %v", path, status, out)
		}
	}
	if h, content := g.read("path=a/b/c.txt&offset=1&max_bytes=3"); content != "the" || h["next_offset"] != 4.0 || h["omitted"] != true {
		t.Errorf("%v %q", h, content)
	}
	if h, content := g.read("path=a/b/c.txt&offset=99"); content != "" || h["next_offset"] != nil {
		t.Errorf("%v %q", h, content)
	}
}

func TestWriteIsAllOrNothing(t *testing.T) {
	g := serve(t)
	g.wrote(file{"keep", "old", nil})
	g.run("mkdir dir; mkfifo fifo; touch notdir")
	for path, code := range map[string]string{"dir": "FILE_INVALID", "fifo": "FILE_INVALID", "notdir/x": "FILE_INVALID",
		"/etc/nope": "PERMISSION_DENIED", "": "INVALID_ARGUMENT", "dir/": "FILE_INVALID"} {
		if status, out := g.write(file{"keep", "new", nil}, file{path, "x", nil}); status < 400 || out["code"] != code {
			t.Errorf("%q: %d %v", path, status, out)
		}
	}
	// A body that ends early or is given up leaves nothing either.
	status, data := g.raw("POST", "/v1/files/write", strings.NewReader(`{"files":[{"path":"keep","len":100}]}`+"\nshort"))
	if status != 400 {
		t.Errorf("%d %s", status, data)
	}
	r, w := io.Pipe()
	req, _ := http.NewRequest("POST", "http://guest/v1/files/write", r)
	go func() {
		_, _ = io.WriteString(w, `{"files":[{"path":"keep","len":100}]}`+"\nsome")
		eventually(t, "it is staged", func() bool { return strings.Contains(g.run("ls -A").out["stdout"], ".chorus-") })
		_ = w.CloseWithError(io.ErrClosedPipe)
	}()
	if _, err := g.client.Do(req); err == nil {
		t.Error("the aborted upload succeeded")
	}
	eventually(t, "nothing staged is left", func() bool { return !strings.Contains(g.run("ls -A").out["stdout"], ".chorus-") })
	if _, content := g.read("path=keep"); content != "old" {
		t.Errorf("keep is %q", content)
	}
}

func TestReplacingIsAtomicForReaders(t *testing.T) {
	g := serve(t)
	text := func(c string) string { return strings.Repeat(c, 100_000) }
	g.wrote(file{"f", text("a"), nil})
	id := g.start(object{"command": `echo go; for i in $(seq 200); do tr -d a < f | wc -c; tr -d b < f | wc -c; done | sort | uniq -c | grep -v -E ' (0|100000)$'`})
	for i := range 100 {
		g.wrote(file{"f", text(string("ab"[i%2])), nil})
	}
	if r := g.wait(id); r.out["stdout"] != "go\n" {
		t.Errorf("a reader saw half a file:\n%s", r.out["stdout"])
	}
}

func TestLinks(t *testing.T) {
	g := serve(t)
	secret := filepath.Join(g.dir, "secret")
	if err := os.WriteFile(secret, []byte("root only"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run("echo real > real; ln -s real link; ln -s " + secret + " out; ln -s loop loop; ln -s missing/new dangling; ln -s " + g.dir + "/run runs")
	g.wrote(file{"link", "through", nil}, file{"dangling", "made", nil})
	if out := g.run("readlink link; cat real missing/new").out["stdout"]; out != "real\nthroughmade" {
		t.Errorf("%q", out)
	}
	for query, code := range map[string]string{
		"path=out": "PERMISSION_DENIED", "path=loop": "FILE_INVALID", "path=runs/guest.sock": "PERMISSION_DENIED", "path=/proc/self/environ": "PERMISSION_DENIED",
		"path=/proc/self/fd/1": "FILE_INVALID", "path=.": "FILE_INVALID", "path=gone": "FILE_NOT_FOUND",
	} {
		if h, _ := g.read(query); h["refused"] != code {
			t.Errorf("%s: %v", query, h)
		}
	}
	if status, _ := g.write(file{"out", "x", nil}); status < 400 {
		t.Error("wrote through a link into a folder of root")
	}
	if text, _ := os.ReadFile(secret); string(text) != "root only" {
		t.Errorf("the secret is now %q", text)
	}
	// A name that changes between a file and a link to the secret never shows it.
	id := g.start(object{"command": "echo go; while :; do ln -sf " + secret + " flip; echo public > flop; mv flop flip; done 2>/dev/null"})
	for range 300 {
		if _, content := g.read("path=flip"); strings.Contains(content, "root only") {
			t.Fatal("read the secret")
		}
	}
	g.ok("POST", "/v1/execs/"+id+"/kill", object{"signal": "KILL"})
}

func TestSpecialFilesAreNotOpened(t *testing.T) {
	g := serve(t)
	g.run(`mkfifo fifo; python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('sock')" || true`)
	for path, kind := range map[string]string{"fifo": "fifo", "/dev/zero": "device", "/dev/tty": "device", "/proc": "dir"} {
		h, _ := g.read("path=" + path)
		if h["refused"] != "FILE_INVALID" || h["kind"] != kind {
			t.Errorf("%s: %v", path, h)
		}
	}
	if s := g.ok("GET", "/v1/files/stat?path=fifo", nil); s["type"] != "fifo" {
		t.Errorf("%v", s)
	}
}

func TestHugeSparseFile(t *testing.T) {
	g := serve(t)
	g.run("truncate -s 3G sparse; printf end >> sparse; (echo one; echo two) > lines; truncate -s 3G lines")
	begin := time.Now()
	if h, content := g.read(fmt.Sprintf("path=sparse&offset=%d", 3<<30)); content != "end" || h["omitted"] != false || h["file"].(object)["size_bytes"] != float64(3<<30+3) {
		t.Errorf("%v %q", h, content)
	}
	if took := time.Since(begin); took > limit(200*time.Millisecond) {
		t.Errorf("a range took %v", took)
	}
	h, content := g.read("path=lines&line_start=2&line_end=2")
	if content != "two\n" || h["total_lines"] != nil || h["next_line"] != 3.0 {
		t.Errorf("%v %q", h, content)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLines(t *testing.T) {
	g := serve(t)
	long := strings.Repeat("é", 2500)
	g.wrote(file{"f", "one\ntwo\n" + long + "\nfour\nlast", nil}, file{"empty", "", nil})
	for _, c := range []struct {
		query, content           string
		start, end, next, cutted float64
		omitted                  bool
	}{
		{"line_start=1", "one\ntwo\n" + long[:4000] + "\nfour\nlast", 1, 5, 0, 1, true},
		{"line_start=2&line_end=2", "two\n", 2, 2, 3, 0, false},
		{"line_start=4&line_end=99", "four\nlast", 4, 5, 0, 0, false},
		{"line_end=1", "one\n", 1, 1, 2, 0, false},
		{"line_start=1&max_bytes=9", "one\ntwo\n", 1, 2, 3, 0, true},
		{"line_start=3&max_bytes=9", long[:8], 3, 3, 4, 1, true},
	} {
		h, content := g.read("path=f&" + c.query)
		next, _ := h["next_line"].(float64)
		if content != c.content || h["line_start"] != c.start || h["line_end"] != c.end || next != c.next || h["cut_lines"] != c.cutted || h["omitted"] != c.omitted || h["total_lines"] != 5.0 {
			t.Errorf("%s: %v %.40q", c.query, h, content)
		}
	}
	if h, _ := g.read("path=f&line_start=6"); h["refused"] != "INVALID_ARGUMENT" {
		t.Errorf("%v", h)
	}
	if h, content := g.read("path=empty&line_start=1"); content != "" || h["total_lines"] != 0.0 {
		t.Errorf("%v %q", h, content)
	}
}

func TestListPagesInPathOrder(t *testing.T) {
	g := serve(t)
	g.run("mkdir -p a/x b; touch a/c a-b a/x/deep b/y.py; ln -s a link; printf '' > $'bad\\xff'")
	var all []string
	cursor := ""
	for pages := 0; ; pages++ {
		out := g.ok("GET", "/v1/files/list?path=.&depth=9&limit=2&cursor="+cursor, nil)
		for _, e := range list(out["entries"]) {
			all = append(all, e["path"].(string))
		}
		next, more := out["next_cursor"].(string)
		if !more || pages > 20 {
			break
		}
		cursor = next
	}
	if got := strings.Join(all, " "); got != "a a-b a/c a/x a/x/deep b b/y.py bad\uFFFD link" {
		t.Errorf("%s", got)
	}
	names := func(query string) string {
		var names []string
		for _, e := range list(g.ok("GET", "/v1/files/list?"+query, nil)["entries"]) {
			names = append(names, e["path"].(string))
		}
		return strings.Join(names, " ")
	}
	for query, want := range map[string]string{
		"path=a": "c x", "path=a/c": "a/c", "depth=9&glob=" + url.QueryEscape("**/*.py"): "b/y.py",
		"depth=9&glob=" + url.QueryEscape("a/**"): "a a/c a/x a/x/deep", "depth=9&glob=" + url.QueryEscape("?"): "a b", "path=link": "c x",
	} {
		if got := names(query); got != want {
			t.Errorf("%s: %q", query, got)
		}
	}
	g.refused("FILE_NOT_FOUND", "GET", "/v1/files/list?path=nope", nil)
	g.refused("INVALID_ARGUMENT", "GET", "/v1/files/list?glob=%5B", nil)
}

// tmpfs mounts a file system of its own.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("this test mounts a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestAWorkspaceThatFilesFillIsToldAtOnceAndOfNoCommand(t *testing.T) {
	g := serve(t, "--workdir", tmpfs(t, "size=1m"))
	told := func(after string, want int) {
		t.Helper()
		n := 0
		for _, f := range list(g.ok("GET", "/v1/facts", nil)["facts"]) {
			if f["limit"] == "workspace" {
				n++
				if f["exec_id"] != nil {
					t.Errorf("after %s: %v", after, f)
				}
			}
		}
		if n != want {
			t.Errorf("after %s: told %d times, wanted %d", after, n, want)
		}
	}
	room := func() { g.manage(object{"op": "delete", "path": "full", "recursive": true}) }
	most, half := strings.Repeat("x", 850_000), strings.Repeat("x", 425_000)
	g.wrote(file{"full/file", most, nil})
	told("a write", 1)
	g.run("true")
	told("a command", 1)
	room()
	g.start(object{"command": "echo; exec sleep 300"})
	if status, out := g.put("full", bytes.NewReader(archive(t, entry{"a", most, tar.Header{}}))); status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	told("an upload", 2)
	room()
	g.wrote(file{"full/half", half, nil})
	g.manage(object{"op": "copy", "path": "full/half", "dest": "full/other"})
	told("a copy", 3)
}

func TestFullWorkspaceIsNamed(t *testing.T) {
	dir := tmpfs(t, "size=1m")
	g := serve(t, "--workdir", dir)
	status, out := g.write(file{"big", strings.Repeat("x", 2<<20), nil})
	if status != 507 || out["code"] != "LIMIT_EXCEEDED" || out["kind"] != "workspace" {
		t.Errorf("%d %v", status, out)
	}
	g.run("head -c 2000000 /dev/zero > fill")
	eventually(t, "the limit is told", func() bool { return strings.Contains(kinds(g.recorded()), "limit") })
	if n := strings.Count(kinds(g.recorded()), "limit"); g.run("true").num("exit_code") != 0 || strings.Count(kinds(g.recorded()), "limit") != n {
		t.Error("the same limit was told twice")
	}
}

func TestFramingLimits(t *testing.T) {
	g := serve(t)
	for name, c := range map[string]struct {
		body   io.Reader
		status int
	}{
		"no header":        {strings.NewReader(""), 400},
		"no line":          {strings.NewReader(`{"files":[]}`), 400},
		"not json":         {strings.NewReader("nope\n"), 400},
		"endless header":   {strings.NewReader(strings.Repeat("x", 2<<20)), 429},
		"negative length":  {strings.NewReader(`{"files":[{"path":"a","len":-1}]}` + "\n"), 400},
		"too many":         {strings.NewReader(`{"files":[` + strings.Repeat(`{"path":"a"},`, 1000) + `{"path":"a"}]}` + "\n"), 429},
		"impossible mode":  {strings.NewReader(`{"files":[{"path":"a","len":0,"mode":"99"}]}` + "\n"), 400},
		"nothing to write": {strings.NewReader(`{"files":[]}` + "\n"), 200},
	} {
		if status, data := g.raw("POST", "/v1/files/write", c.body); status != c.status {
			t.Errorf("%s: %d %s", name, status, data)
		}
	}
	if status, data := g.raw("PUT", "/v1/lease", strings.NewReader(strings.Repeat(" ", 17<<20))); status != 429 {
		t.Errorf("%d %s", status, data)
	}
	g.refused("INVALID_ARGUMENT", "GET", "/v1/nothing", nil)
}
