package test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
