package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (g *guest) manage(req object) object {
	g.t.Helper()
	return g.ok("POST", "/v1/files/manage", req)
}

func (g *guest) unmanaged(code string, req object) object {
	g.t.Helper()
	return g.refused(code, "POST", "/v1/files/manage", req)
}

func (g *guest) sh(command string) string {
	g.t.Helper()
	r := g.run(command)
	return r.out["stdout"] + r.out["stderr"]
}

func TestMakeDirectories(t *testing.T) {
	g := serve(t)
	if out := g.manage(object{"op": "mkdir", "path": "a/b//c/"}); out["entries"] != 3.0 {
		t.Errorf("%v", out)
	}
	if out := g.manage(object{"op": "mkdir", "path": "a/b"}); out["entries"] != 0.0 || out["path"] != "a/b" {
		t.Errorf("%v", out)
	}
	g.sh("touch file; ln -s a link")
	g.manage(object{"op": "mkdir", "path": "link/d"})
	g.manage(object{"op": "mkdir", "path": "--help/-rf"})
	g.manage(object{"op": "mkdir", "path": "new\nline"})
	if out := g.sh("ls -Q; ls a"); out != "\"--help\"\n\"a\"\n\"file\"\n\"link\"\n\"new\\nline\"\nb\nd\n" {
		t.Error(out)
	}
	g.unmanaged("FILE_INVALID", object{"op": "mkdir", "path": "file"})
	g.unmanaged("FILE_INVALID", object{"op": "mkdir", "path": "file/x"})
	g.unmanaged("PERMISSION_DENIED", object{"op": "mkdir", "path": "/etc/mine"})
	for _, bad := range []object{{}, {"op": "chmod", "path": "a"}, {"op": "mkdir"}, {"op": "mkdir", "path": "a", "dest": "b"}, {"op": "move", "path": "a"},
		{"op": "mkdir", "path": "a\x00b"}, {"op": "copy", "path": "a", "dest": ""}} {
		g.unmanaged("INVALID_ARGUMENT", bad)
	}
}

func TestMove(t *testing.T) {
	g := serve(t)
	g.sh("mkdir -p d/e full empty; echo one > a; echo two > b; touch full/x; chmod 640 a; ln -s nowhere link; ln -s d dlink; mkfifo fifo")
	if out := g.manage(object{"op": "move", "path": "a", "dest": "x/y/a2"}); out["entries"] != 1.0 || out["path"] != "x/y/a2" {
		t.Errorf("%v", out)
	}
	g.manage(object{"op": "move", "path": "b", "dest": "x/y/a2"})
	g.manage(object{"op": "move", "path": "d", "dest": "d2"})
	g.manage(object{"op": "move", "path": "link", "dest": "link2"})
	g.manage(object{"op": "move", "path": "fifo", "dest": "fifo2"})
	if out := g.sh("cat x/y/a2; readlink link2; ls -d d2/e; test -p fifo2 && ls a b d link fifo 2>&1 | wc -l"); out != "two\nnowhere\nd2/e\n5\n" {
		t.Error(out)
	}
	for _, dest := range []string{"full", "empty", "full/", "."} {
		if dest != "." {
			g.unmanaged("FILE_CONFLICT", object{"op": "move", "path": "d2", "dest": dest})
		}
		g.unmanaged(map[bool]string{true: "PERMISSION_DENIED", false: "FILE_CONFLICT"}[dest == "."], object{"op": "move", "path": "x/y/a2", "dest": dest})
	}
	g.unmanaged("FILE_CONFLICT", object{"op": "move", "path": "d2", "dest": "x/y/a2"})
	g.unmanaged("INVALID_ARGUMENT", object{"op": "move", "path": "d2", "dest": "d2/e/f"})
	g.unmanaged("FILE_NOT_FOUND", object{"op": "move", "path": "gone", "dest": "x"})
	g.unmanaged("PERMISSION_DENIED", object{"op": "move", "path": "/etc/passwd", "dest": "mine"})
	for _, work := range []string{".", g.dir + "/work", "../work", "d2/..", g.dir} {
		g.unmanaged("PERMISSION_DENIED", object{"op": "move", "path": work, "dest": g.dir + "/tmp/w"})
		g.unmanaged("PERMISSION_DENIED", object{"op": "delete", "path": work, "recursive": true})
	}
}

func TestMoveToAnotherFileSystem(t *testing.T) {
	tmp := tmpfs(t, "size=8m")
	g := serve(t, "--tmp", tmp)
	g.sh("mkdir -p d/ro; echo content > d/ro/f; ln -s f d/ro/l; chmod 750 d/ro/f; chmod 555 d/ro")
	g.unmanaged("PERMISSION_DENIED", object{"op": "move", "path": "d", "dest": tmp + "/d2"}) // as mv would: the source stays in a read-only folder
	g.sh("chmod -R u+w d " + tmp + "/d2; rm -rf " + tmp + "/d2")
	g.manage(object{"op": "move", "path": "d", "dest": tmp + "/d3"})
	if out := g.sh("cd " + tmp + "; ls -A; cat d3/ro/l; stat -c %a d3/ro/f; ls -d ~/d"); !strings.HasPrefix(out, "d3\ncontent\n750\nls:") {
		t.Error(out)
	}
	g.sh("head -c 9000000 /dev/zero | tr '\\0' x > big")
	out := g.unmanaged("LIMIT_EXCEEDED", object{"op": "move", "path": "big", "dest": tmp + "/big"})
	if out["kind"] != "workspace" || g.sh("stat -c %s big; ls -A "+tmp) != "9000000\nd3\n" {
		t.Errorf("%v %s", out, g.sh("ls -lA . "+tmp))
	}
}

func TestCopy(t *testing.T) {
	g := serve(t)
	g.sh(`mkdir -p d/ro d/deep; echo one > d/f; echo two > d/ro/g; chmod 4755 d/f; chmod 555 d/ro; ln -s ../../secret d/out; ln -s f d/in; touch $'d/new\nline' d/-rf
		mkdir special; mkfifo special/fifo; truncate -s 200M d/sparse; printf end >> d/sparse`)
	if out := g.manage(object{"op": "copy", "path": "d/f", "dest": "p/q/f2"}); out["entries"] != 1.0 {
		t.Errorf("%v", out)
	}
	if out := g.unmanaged("FILE_INVALID", object{"op": "copy", "path": "d", "dest": "d2"}); out["kind"] != "needs_recursive" {
		t.Errorf("%v", out)
	}
	if out := g.manage(object{"op": "copy", "path": "d", "dest": "d2", "recursive": true}); out["entries"] != 10.0 {
		t.Errorf("%v", out)
	}
	if out := g.sh("diff -r --no-dereference d d2 && stat -c %a d2/f d2/ro && du -k d2/sparse | cut -f1 && readlink d2/out"); out != "755\n555\n256\n../../secret\n" && !strings.HasPrefix(out, "755\n555\n") {
		t.Error(out)
	}
	if kb := g.sh("du -k d2/sparse | cut -f1"); len(kb) > 4 {
		t.Errorf("the copy of a sparse file takes %s KB", kb)
	}
	g.manage(object{"op": "copy", "path": "d/ro/g", "dest": "p/q/f2"})
	if out := g.sh("cat p/q/f2; ls -A p/q"); out != "two\nf2\n" {
		t.Error(out)
	}
	g.manage(object{"op": "copy", "path": "d/out", "dest": "link"})
	if out := g.unmanaged("FILE_INVALID", object{"op": "copy", "path": "special", "dest": "s2", "recursive": true}); out["kind"] != "fifo" {
		t.Errorf("%v", out)
	}
	g.unmanaged("INVALID_ARGUMENT", object{"op": "copy", "path": "d", "dest": "d/deep/d", "recursive": true})
	g.unmanaged("FILE_CONFLICT", object{"op": "copy", "path": "d", "dest": "d2", "recursive": true})
	g.unmanaged("FILE_CONFLICT", object{"op": "copy", "path": "d", "dest": "p/q/f2", "recursive": true})
	g.unmanaged("PERMISSION_DENIED", object{"op": "copy", "path": "/proc/" + fmt.Sprint(g.cmd.Process.Pid) + "/environ", "dest": "e"})
	g.unmanaged("PERMISSION_DENIED", object{"op": "copy", "path": "/proc/sys", "dest": "e", "recursive": true})
	if out := g.sh("ls -A"); out != "d\nd2\nlink\np\nspecial\n" {
		t.Errorf("something is left over:\n%s", out)
	}
}

func TestDelete(t *testing.T) {
	g := serve(t)
	if err := os.WriteFile(filepath.Join(g.dir, "keep"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	g.sh(`mkdir -p d/e/f empty closed outer; touch d/1 d/e/2 $'d/new\nline' d/-rf outer/keep; ln -s ../outer d/out; ln -s d link; mkdir closed/in; chmod 0 closed empty; mkfifo d/fifo`)
	if out := g.unmanaged("FILE_INVALID", object{"op": "delete", "path": "d"}); out["kind"] != "needs_recursive" {
		t.Errorf("%v", out)
	}
	g.manage(object{"op": "delete", "path": "link", "recursive": true})
	if out := g.manage(object{"op": "delete", "path": "d/", "recursive": true}); out["entries"] != 9.0 {
		t.Errorf("%v", out)
	}
	g.manage(object{"op": "delete", "path": "empty", "recursive": true})
	g.unmanaged("PERMISSION_DENIED", object{"op": "delete", "path": "closed", "recursive": true})
	g.unmanaged("FILE_NOT_FOUND", object{"op": "delete", "path": "d"})
	g.unmanaged("PERMISSION_DENIED", object{"op": "delete", "path": g.dir + "/keep"})
	if out := g.sh("ls -A . outer"); out != ".:\nclosed\nouter\n\nouter:\nkeep\n" {
		t.Error(out)
	}
}

func TestHugeDirectoryIsCopiedAndDeletedInTime(t *testing.T) {
	g := serve(t)
	g.sh(`mkdir huge; cd huge; seq -f 'file-with-a-long-name-%06.0f' 100000 | xargs touch`)
	begin := time.Now()
	if out := g.manage(object{"op": "copy", "path": "huge", "dest": "huge2", "recursive": true}); out["entries"] != 100001.0 {
		t.Errorf("%v", out)
	}
	if out := g.manage(object{"op": "delete", "path": "huge", "recursive": true}); out["entries"] != 100001.0 {
		t.Errorf("%v", out)
	}
	took := time.Since(begin)
	t.Logf("copied and deleted 100k files in %v", took)
	if took > limit(60*time.Second) {
		t.Errorf("took %v", took)
	}
	// Giving up ends the work, and what was half done goes away.
	g.sh("mv huge2 huge")
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://guest/v1/files/manage",
		strings.NewReader(`{"op":"copy","path":"huge","dest":"huge3","recursive":true}`))
	go func() {
		eventually(t, "the copy has begun", func() bool { return strings.Contains(g.sh("ls -A"), ".chorus-") })
		cancel()
	}()
	if _, err := g.client.Do(req); err == nil {
		t.Error("the copy was not given up")
	}
	eventually(t, "half a copy is gone", func() bool { return g.sh("ls -A") == "huge\n" })
	// Other file work goes on meanwhile.
	deleted := make(chan struct{})
	go func() {
		defer close(deleted)
		g.json("POST", "/v1/files/manage", object{"op": "delete", "path": "huge", "recursive": true})
	}()
	for range 20 {
		begin := time.Now()
		g.ok("GET", "/v1/files/stat?path=.", nil)
		if took := time.Since(begin); took > limit(500*time.Millisecond) {
			t.Errorf("a stat took %v beside it", took)
		}
	}
	<-deleted
	if left := g.sh("ls -A"); left != "" {
		t.Errorf("left after the deletion: %q", left)
	}
}

func TestTreesDeeperThanAnyPath(t *testing.T) {
	g := serve(t)
	g.sh(`python3 -c "
import os
for i in range(400):
    os.mkdir('d'); os.chdir('d')
"`)
	g.manage(object{"op": "copy", "path": "d", "dest": "e", "recursive": true})
	if out := g.manage(object{"op": "delete", "path": "d", "recursive": true}); out["entries"] != 400.0 {
		t.Errorf("%v", out)
	}
	g.sh(`python3 -c "
import os
for i in range(3000):
    os.mkdir('d'); os.chdir('d')
"`)
	if out := g.unmanaged("LIMIT_EXCEEDED", object{"op": "delete", "path": "d", "recursive": true}); out["kind"] != "depth" {
		t.Errorf("%v", out)
	}
}

// A process swaps a directory and a link to a folder full of files for each other all the time.
func TestSwappedLinksLeadNowhere(t *testing.T) {
	g := serve(t)
	g.sh("mkdir outer copies; for i in $(seq 50); do echo precious > outer/$i; done")
	id := g.start(object{"command": `echo go; cd ~; mkdir -p d; while :; do
		mkdir -p d/swap/sub; for i in 1 2 3; do echo x > d/swap/$i; done; mv d/swap d/was 2>/dev/null; ln -s ../outer d/swap; rm -rf d/was; rm -f d/swap; done 2>/dev/null`})
	for i := range 60 {
		g.json("POST", "/v1/files/manage", object{"op": "copy", "path": "d", "dest": fmt.Sprintf("copies/%d", i), "recursive": true})
		g.json("POST", "/v1/files/manage", object{"op": "delete", "path": "d", "recursive": true})
	}
	g.ok("POST", "/v1/execs/"+id+"/kill", object{"signal": "KILL"})
	if out := g.sh("ls outer | wc -l; grep -rl precious copies | wc -l; find . -name '.chorus-*'"); out != "50\n0\n" {
		t.Errorf("%s", out)
	}
}

func TestPausedSandboxIsReadOnly(t *testing.T) {
	g := serve(t)
	g.wrote(file{"f", "needle", nil})
	g.ok("POST", "/v1/pause", nil)
	for _, op := range []string{"mkdir", "delete", "move", "copy"} {
		g.unmanaged("PAUSED", object{"op": op, "path": "f", "dest": "g"})
	}
	if out := g.search(object{"pattern": "needle"}); len(list(out["matches"])) != 1 {
		t.Errorf("%v", out)
	}
	g.ok("POST", "/v1/resume", nil)
	g.manage(object{"op": "delete", "path": "f"})
}
