package test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strings"
	"testing"
	"time"
)

// entry is one of an archive; its kind is a regular file unless it says so.
type entry struct {
	name, content string
	more          tar.Header
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := e.more
		h.Name, h.Size = e.name, int64(len(e.content))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (g *guest) put(path string, body io.Reader) (int, object) {
	g.t.Helper()
	status, data := g.raw("PUT", "/v1/files/tar?path="+url.QueryEscape(path), body)
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		g.t.Fatalf("%v in %q", err, data)
	}
	return status, out
}

func (g *guest) get(query string) (map[string]*tar.Header, map[string]string, http.Header) {
	g.t.Helper()
	res, err := g.client.Get("http://guest/v1/files/tar?" + query)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("content-type") != "application/x-tar" {
		text, _ := io.ReadAll(res.Body)
		g.t.Fatalf("%s: %d %s", query, res.StatusCode, text)
	}
	heads, contents := map[string]*tar.Header{}, map[string]string{}
	for r := tar.NewReader(res.Body); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			g.t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			g.t.Fatal(err)
		}
		heads[h.Name], contents[h.Name] = h, string(text)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return heads, contents, res.Trailer
}

func names(heads map[string]*tar.Header) string {
	var all []string
	for name := range heads {
		all = append(all, name)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}

func TestArchive(t *testing.T) {
	g := serve(t)
	g.sh(`mkdir -p d/sub/deep d/empty d/closed d/node_modules/x; echo one > d/f; chmod 750 d/f; touch -d @981173106 d/f; ln -s ../secret d/sub/link; mkfifo d/fifo; head -c 700000 /dev/zero > d/big; touch d/sub/deep/a.log d/sub/deep/b.txt d/node_modules/x/y
		echo > d/locked-é; chmod 0 d/locked-é d/closed; touch $'d/new\nline' d/-rf d/` + strings.Repeat("n", 200) + ` $'d/bad\xff'; ln -s d dlink`)
	heads, contents, trailer := g.get("path=d")
	if got := names(heads); got != "-rf bad\xff big empty/ f new\nline "+strings.Repeat("n", 200)+" node_modules/ node_modules/x/ node_modules/x/y sub/ sub/deep/ sub/deep/a.log sub/deep/b.txt sub/link" {
		t.Errorf("%q", got)
	}
	if h := heads["f"]; h.Mode != 0o750 || h.ModTime.Unix() != 981173106 || contents["f"] != "one\n" || len(contents["big"]) != 700000 {
		t.Errorf("%+v", h)
	}
	if h := heads["sub/link"]; h.Typeflag != tar.TypeSymlink || h.Linkname != "../secret" {
		t.Errorf("%+v", h)
	}
	var left struct {
		Total int
		Paths []struct{ Path, Why string }
	}
	if err := json.Unmarshal([]byte(trailer.Get("guest-left-out")), &left); err != nil || fmt.Sprint(left) != "{3 [{closed permission denied for the sandbox's user} {fifo a fifo} {locked-é permission denied for the sandbox's user}]}" {
		t.Errorf("%v %v %v", err, left, trailer)
	}
	for query, want := range map[string]string{
		"path=d/f": "f", "path=dlink/sub": "deep/ deep/a.log deep/b.txt link", "path=dlink&include=/f": "f", "path=d/empty": "",
		"path=d&include=*.log":                           "sub/ sub/deep/ sub/deep/a.log",
		"path=d&include=sub/&exclude=*.log&exclude=link": "sub/ sub/deep/ sub/deep/b.txt",
		"path=d&include=sub&include=!link&include=/f":    "f sub/ sub/deep/ sub/deep/a.log sub/deep/b.txt",
		"path=d&include=**/x/&exclude=y&include=nothing": "node_modules/ node_modules/x/",
		"path=d&exclude=*&exclude=!/empty/":              "empty/",
		"path=d/sub&exclude=deep/*&exclude=!deep/*.log":  "deep/ deep/a.log link",
	} {
		if heads, _, _ := g.get(query); names(heads) != want {
			t.Errorf("%s: %s", query, names(heads))
		}
	}
	for query, code := range map[string]string{"path=gone": "FILE_NOT_FOUND", "path=d/fifo": "FILE_INVALID", "path=d/closed": "PERMISSION_DENIED", "path=/proc": "PERMISSION_DENIED", "": "INVALID_ARGUMENT"} {
		g.refused(code, "GET", "/v1/files/tar?"+query, nil)
	}
	// It comes back as it was.
	res, err := g.client.Get("http://guest/v1/files/tar?path=d&exclude=sub/link")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if status, out := g.put("back", res.Body); status != 200 || out["refused_total"] != 0.0 {
		t.Errorf("%d %v", status, out)
	}
	if out := g.sh("chmod 700 d/closed; rm -rf d/fifo d/closed d/locked* d/sub/link; diff -r --no-dereference d back && stat -c '%a %Y' back/f"); out != "750 981173106\n" {
		t.Errorf("%s", out)
	}
}

func TestArchiveOfWhatChanges(t *testing.T) {
	g := serve(t)
	if err := os.WriteFile(g.dir+"/secret", []byte("root only"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Files and directories that become links to elsewhere, or nothing, at any time.
	g.sh("mkdir outer d; echo precious > outer/f")
	id := g.start(object{"command": `echo go; cd ~/d; while :; do mkdir s; echo x > s/f; mv s w; ln -s ../outer s; rm -rf w s; echo x > f; ln -sf ../outer/f f; rm f; done 2>/dev/null`})
	for range 100 {
		_, contents, _ := g.get("path=d")
		for name, text := range contents {
			if strings.Contains(text, "precious") {
				t.Fatalf("%s holds what is elsewhere", name)
			}
		}
	}
	g.ok("POST", "/v1/execs/"+id+"/kill", object{"signal": "KILL"})
	// A file that gets shorter cannot be sent any more: the stream is reset and never looks complete.
	g.sh("head -c 50000000 /dev/zero > shrinks")
	res, err := g.client.Get("http://guest/v1/files/tar?path=shrinks")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	g.sh("truncate -s 1000 shrinks")
	if n, err := io.Copy(io.Discard, res.Body); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestTransfersCountAsActivity(t *testing.T) {
	g := serve(t)
	g.ok("PUT", "/v1/lease", object{"idle_ms": 4000, "ttl_ms": 120000})
	r, w := io.Pipe()
	go func() {
		body := archive(t, entry{"f", strings.Repeat("x", 100_000), tar.Header{}})
		for len(body) > 0 {
			n := min(len(body), 4000)
			_, _ = w.Write(body[:n])
			body = body[n:]
			time.Sleep(250 * time.Millisecond)
		}
		w.Close()
	}()
	if status, out := g.put("in", r); status != 200 || out["files"] != 1.0 {
		t.Errorf("%d %v", status, out)
	}
}

// endless gives zeros that are not all zero.
type endless struct{ block []byte }

func (e endless) Read(p []byte) (int, error) { return copy(p, e.block), nil }

func TestTransferSpeed(t *testing.T) {
	// How fast a disk is says nothing about the guest.
	g := serve(t, "--workdir", tmpfs(t, "size=320m"))
	const size = 256 << 20
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: size, Mode: 0o644})
		_, _ = io.CopyBuffer(tw, io.LimitReader(endless{bytes.Repeat([]byte("0123456789abcdef"), 16<<10)}, size), make([]byte, 256<<10))
		_ = tw.Close()
		w.Close()
	}()
	begin := time.Now()
	if status, out := g.put("in", r); status != 200 || out["bytes"] != float64(size) {
		t.Fatalf("%d %v", status, out)
	}
	up := time.Since(begin)
	begin = time.Now()
	res, err := g.client.Get("http://guest/v1/files/tar?path=in")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	down := time.Since(begin)
	if err != nil || n < size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	speed := func(took time.Duration) float64 { return size / 1e6 / took.Seconds() }
	t.Logf("in %.0f MB/s, out %.0f MB/s", speed(up), speed(down))
	if up > limit(5*time.Second) || down > limit(5*time.Second) {
		t.Errorf("in %v, out %v", up, down)
	}
}

func TestTenThousandSmallFiles(t *testing.T) {
	g := serve(t, "--workdir", tmpfs(t, "size=64m"))
	var entries []entry
	for i := range 10_000 {
		entries = append(entries, entry{fmt.Sprintf("dir%d/sub/file-%d.txt", i%100, i), strings.Repeat("text ", 200), tar.Header{}})
	}
	body := archive(t, entries...)
	begin := time.Now()
	if status, out := g.put("in", bytes.NewReader(body)); status != 200 || out["files"] != 10000.0 {
		t.Fatalf("%d %v", status, out)
	}
	up := time.Since(begin)
	begin = time.Now()
	res, err := g.client.Get("http://guest/v1/files/tar?path=in")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	down := time.Since(begin)
	t.Logf("10k small files: in %v, out %v", up, down)
	if up > limit(3*time.Second) || down > limit(3*time.Second) {
		t.Errorf("in %v, out %v", up, down)
	}
}
