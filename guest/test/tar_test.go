package test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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

func (g *guest) extracted(path string, entries ...entry) object {
	g.t.Helper()
	status, out := g.put(path, bytes.NewReader(archive(g.t, entries...)))
	if status != 200 {
		g.t.Fatalf("%d %v", status, out)
	}
	return out
}

func refusals(out object) string {
	var text []string
	for _, r := range list(out["refused"]) {
		text = append(text, fmt.Sprintf("%s: %s", r["path"], r["why"]))
	}
	return strings.Join(text, "\n")
}

func TestExtract(t *testing.T) {
	g := serve(t)
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	long := strings.Repeat("long/", 30) + strings.Repeat("n", 200)
	g.sh("mkdir -p in/keep; echo mine > in/keep/mine; echo old > in/f; chmod 700 in/keep; ln -s f in/link")
	out := g.extracted("in",
		entry{"./", "", tar.Header{Typeflag: tar.TypeDir, Mode: 0o500}},
		entry{"f", "new", tar.Header{Mode: 0o4755, ModTime: old, Uid: 0, Uname: "root"}},
		entry{"keep/", "", tar.Header{Typeflag: tar.TypeDir, Mode: 0o555}},
		entry{"ro/", "", tar.Header{Typeflag: tar.TypeDir, Mode: 0o555, ModTime: old}},
		entry{"ro/x", "x", tar.Header{}},
		entry{"deep/down/y", strings.Repeat("y", 600_000), tar.Header{}},
		entry{"link", "no longer a link", tar.Header{}},
		entry{"ro/up", "", tar.Header{Typeflag: tar.TypeSymlink, Linkname: "../deep/./down"}},
		entry{long, "l", tar.Header{Format: tar.FormatGNU}},
		entry{"pax-é-" + long, "p", tar.Header{Format: tar.FormatPAX, PAXRecords: map[string]string{"VENDOR.x": "y"}}},
		entry{"new\nline", "", tar.Header{}}, entry{"-rf", "", tar.Header{}})
	if out["files"] != 9.0 || out["refused_total"] != 0.0 || out["bytes"] != float64(3+1+600_000+16+2) {
		t.Errorf("%v", out)
	}
	want := fmt.Sprintf("755 %d %d f\n555 981173106 ro\n700 keep\n755 in\n600000\nfnew\nmine\n../deep/./down\nx\n", g.uid, old.Unix())
	if got := g.sh(`cd in; stat -c '%a %u %Y %n' f; stat -c '%a %Y %n' ro; stat -c '%a %n' keep ../in; wc -c < ro/up/y; echo -n f; cat f; echo; cat keep/mine; readlink ro/up; cat ro/x; echo`); got != strings.ReplaceAll(want, "../in", "in") &&
		got != strings.Replace(want, "755 in", "755 ../in", 1) {
		t.Errorf("%s wanted %s", got, want)
	}
	if got := g.sh(`cat in/link in/f; find in -name 'nn*' | wc -l; cd in; ls -Q new* ./-rf; find . -name '.chorus-*'`); got != "no longer a linknew2\n\"./-rf\"\n\"new\\nline\"\n" {
		t.Errorf("%q", got)
	}
	if out := g.extracted("made/for/it"); out["files"] != 0.0 || g.sh("ls -d made/for/it") != "made/for/it\n" {
		t.Errorf("%v", out)
	}
	if status, out := g.put("in/f", bytes.NewReader(archive(t))); status != 422 {
		t.Errorf("%d %v", status, out)
	}
	g.ok("POST", "/v1/pause", nil)
	if status, out := g.put("x", bytes.NewReader(archive(t))); status != 409 || out["code"] != "PAUSED" {
		t.Errorf("%d %v", status, out)
	}
}

func TestExtractRefuses(t *testing.T) {
	g := serve(t)
	outside := filepath.Join(g.dir, "work", "outside")
	g.sh("mkdir -p outside in/dir/sub; echo precious > outside/f; ln -s ../outside in/old; touch in/plain; mkdir in/locked; chmod 555 in/locked")
	link := func(name, target string) entry {
		return entry{name, "", tar.Header{Typeflag: tar.TypeSymlink, Linkname: target}}
	}
	out := g.extracted("in",
		entry{outside + "/f", "evil", tar.Header{}},
		entry{"../outside/f", "evil", tar.Header{}},
		entry{"a/../../outside/f", "evil", tar.Header{}},
		entry{"..", "", tar.Header{Typeflag: tar.TypeDir}},
		entry{"old/f", "evil", tar.Header{}},
		entry{"old/", "", tar.Header{Typeflag: tar.TypeDir}},
		link("abs", outside), link("up", "../outside"), link("dir/up", "../../outside"), link("dir/ok", "../dir/sub"), link("root", "dir/.."), link("dir/none", ""),
		entry{"dir/ok/f", "through", tar.Header{}},
		entry{"hard", "", tar.Header{Typeflag: tar.TypeLink, Linkname: "old/f"}},
		entry{"tty", "", tar.Header{Typeflag: tar.TypeChar, Devmajor: 5}}, entry{"sda", "", tar.Header{Typeflag: tar.TypeBlock, Devmajor: 8}},
		entry{"fifo", "", tar.Header{Typeflag: tar.TypeFifo}},
		entry{"dir", "a file over a directory", tar.Header{}}, link("dir", "plain"),
		entry{"plain", "", tar.Header{Typeflag: tar.TypeDir}}, entry{"plain/x", "", tar.Header{}},
		entry{"locked/x", "", tar.Header{}}, entry{strings.Repeat("n", 300), "", tar.Header{}},
		entry{"good", "good", tar.Header{}})
	want := outside + `/f: an absolute name
../outside/f: the name contains ..
a/../../outside/f: the name contains ..
..: the name contains ..
old/f: the name leads through a symlink
old/: a symlink has this name
abs: a symlink to an absolute path
up: a symlink that leaves the path
dir/up: a symlink that leaves the path
root: a symlink that goes up again behind a name
dir/none: a symlink without a target that can be
dir/ok/f: the name leads through a symlink
hard: a hard link
tty: a device
sda: a device
fifo: a fifo
dir: a directory has this name
dir: a directory has this name
plain: a file has this name
plain/x: the name leads through a file
locked/x: permission denied for the sandbox's user
` + strings.Repeat("n", 300) + `: the name is too long`
	if got := refusals(out); got != want || out["files"] != 2.0 {
		t.Errorf("%v files, refused:\n%s", out["files"], got)
	}
	if got := g.sh("cat outside/f in/good; ls outside; ls -A in"); got != "precious\ngoodf\ndir\ngood\nlocked\nold\nplain\n" {
		t.Errorf("%s", got)
	}
	var many []entry
	for range 300 {
		many = append(many, entry{"/x", "", tar.Header{}})
	}
	if out := g.extracted("in", many...); len(list(out["refused"])) != 200 || out["refused_total"] != 300.0 {
		t.Errorf("%v", out["refused_total"])
	}
	if out := g.extracted("/etc/new"[:4], entry{"mine", "", tar.Header{}}); refusals(out) != "mine: permission denied for the sandbox's user" {
		t.Errorf("%v", out)
	}
	if status, out := g.put("/proc/"+fmt.Sprint(g.cmd.Process.Pid), bytes.NewReader(archive(t))); status != 403 {
		t.Errorf("%d %v", status, out)
	}
}

func TestBrokenArchives(t *testing.T) {
	g := serve(t)
	whole := archive(t, entry{"a", "first", tar.Header{}}, entry{"b", strings.Repeat("b", 1_000_000), tar.Header{}})
	header := func(h tar.Header) []byte {
		var out bytes.Buffer
		if err := tar.NewWriter(&out).WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	huge := header(tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 10 << 30, Mode: 0o644})
	for name, c := range map[string]struct {
		body   []byte
		status int
		says   string
	}{
		"cut in a file":     {whole[:500_000], 400, "ends early, after 1 files"},
		"cut in a header":   {whole[:1024+100], 400, "ends early"},
		"10 GiB claimed":    {append(huge, "only this"...), 400, "ends early"},
		"not an archive":    {[]byte(strings.Repeat("nonsense ", 1000)), 400, "not a tar stream"},
		"a broken checksum": {append([]byte("X"), whole[1:]...), 400, "not a tar stream"},
		"no end":            {whole[:len(whole)-1024], 200, ""},
		"nothing":           {nil, 200, ""},
		"much behind it":    {append(bytes.Clone(whole), make([]byte, 500_000)...), 200, ""},
		"endless pax":       {append(header(tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 1 << 30, Mode: 0o644})[:156], append([]byte("x"), make([]byte, 2<<20)...)...), 400, ""},
	} {
		g.sh("rm -rf in")
		status, out := g.put("in", bytes.NewReader(c.body))
		if message, _ := out["message"].(string); status != c.status || !strings.Contains(message, c.says) {
			t.Errorf("%s: %d %v", name, status, out)
		}
		if left := g.sh("ls -A in; find in -name '.chorus-*'"); strings.Contains(left, ".chorus-") || strings.Contains(left, "huge") {
			t.Errorf("%s leaves %s", name, left)
		}
	}
	// A sparse file of a terabyte is a few hundred bytes, and pax records may claim any name and size.
	sparse := archive(t, entry{"s", "", tar.Header{Format: tar.FormatPAX}}, entry{"evil", "content", tar.Header{Format: tar.FormatPAX, PAXRecords: map[string]string{"VENDOR.a": strings.Repeat("v", 100_000)}}})
	if status, out := g.put("in", bytes.NewReader(sparse)); status != 200 || out["files"] != 2.0 {
		t.Errorf("%d %v", status, out)
	}
	long := "../escaped-é" + strings.Repeat("x", 150)
	if out := g.extracted("in2", entry{long, "x", tar.Header{Format: tar.FormatPAX}}); refusals(out) != long+": the name contains .." {
		t.Errorf("%v", out)
	}
	g.sh("truncate -s 1T sparse; tar --format=gnu -Scf gnu.tar sparse; tar --format=posix -Scf posix.tar sparse; rm sparse; chmod 644 *.tar")
	for _, format := range []string{"gnu", "posix"} {
		body, err := os.ReadFile(g.dir + "/work/" + format + ".tar")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if status, out := g.put("in", bytes.NewReader(body)); status != 200 || !strings.HasSuffix(refusals(out), "sparse: a sparse file") || time.Since(begin) > limit(time.Second) {
			t.Errorf("%s: %d %v in %v", format, status, out, time.Since(begin))
		}
	}
	// Giving up leaves nothing half done.
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, "PUT", "http://guest/v1/files/tar?path=given-up", r)
	go func() {
		_, _ = w.Write(append(huge, make([]byte, 1<<20)...))
		eventually(t, "it is under way", func() bool { return strings.Contains(g.sh("ls -A given-up"), ".chorus-") })
		cancel()
	}()
	if _, err := g.client.Do(req); err == nil {
		t.Error("it was not given up")
	}
	eventually(t, "nothing is left of it", func() bool { return g.sh("ls -A given-up") == "" })
}

func TestExtractIntoAFullWorkspace(t *testing.T) {
	g := serve(t, "--workdir", tmpfs(t, "size=2m"))
	big := bytes.NewReader(archive(t, entry{"a", "fits", tar.Header{}}, entry{"b", strings.Repeat("b", 4<<20), tar.Header{}}))
	if status, out := g.put(".", big); status != 507 || out["code"] != "LIMIT_EXCEEDED" || out["kind"] != "workspace" {
		t.Errorf("%d %v", status, out)
	}
	if got := g.sh("ls -A"); got != "a\n" {
		t.Errorf("%s", got)
	}
}

// While an archive is extracted a process turns its directories into links to elsewhere.
func TestExtractWhileLinksAreSwapped(t *testing.T) {
	g := serve(t)
	g.sh("mkdir outer")
	id := g.start(object{"command": `echo go; mkdir -p ~/in; cd ~/in; while :; do mv d was 2>/dev/null; ln -s ../outer d; rm -rf was; rm -f d; mkdir -p d; done 2>/dev/null`})
	var entries []entry
	for i := range 300 {
		entries = append(entries, entry{fmt.Sprintf("d/%d/f", i), "x", tar.Header{}}, entry{fmt.Sprintf("d/%d", i), "", tar.Header{Typeflag: tar.TypeSymlink, Linkname: "f"}}, entry{fmt.Sprintf("x%d", i), "", tar.Header{}})
	}
	for range 10 {
		g.extracted("in", entries...)
	}
	g.ok("POST", "/v1/execs/"+id+"/kill", object{"signal": "KILL"})
	if out := g.sh("ls -A outer"); out != "" {
		t.Errorf("outside: %s", out)
	}
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
	g.ok("PUT", "/v1/lease", object{"idle_ms": 1500, "ttl_ms": 60000})
	r, w := io.Pipe()
	go func() {
		body := archive(t, entry{"f", strings.Repeat("x", 100_000), tar.Header{}})
		for len(body) > 0 {
			n := min(len(body), 4000)
			_, _ = w.Write(body[:n])
			body = body[n:]
			time.Sleep(100 * time.Millisecond)
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
	g := serve(t)
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
