package test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func (g *guest) search(req object) object {
	g.t.Helper()
	return g.ok("POST", "/v1/files/search", req)
}

// lines are the matches as grep writes them.
func lines(out object) string {
	var text []string
	for _, m := range list(out["matches"]) {
		text = append(text, fmt.Sprintf("%s:%v:%s", m["path"], m["line"], m["text"]))
	}
	return strings.Join(text, "\n")
}

func TestSearch(t *testing.T) {
	g := serve(t)
	g.sh(`mkdir -p src/a src/.git lib; printf 'one\ntwo needle\nthree\r\nneedle' > src/a/f.py; echo 'a Needle' > src/b.py; echo needle > src/a-b.txt; echo needle > src/.git/config
		printf 'needle\0' > src/bin; echo needle > src/.hidden; ln -s b.py src/link; ln -s ../lib src/dirlink; echo needle > lib/l; touch src/empty; mkfifo src/fifo; echo needle > src/locked; chmod 0 src/locked
		printf 'needle\n' > $'src/-new\nline'; printf 'needle\n' > $'src/bad\xff'`)
	for _, c := range []struct {
		req  object
		want string
	}{
		{object{"pattern": "needle", "path": "src"}, "-new\nline:1:needle\n.hidden:1:needle\na-b.txt:1:needle\na/f.py:2:two needle\na/f.py:4:needle\nbad\uFFFD:1:needle"},
		{object{"pattern": "needle", "path": "src", "glob": "*.py", "ignore_case": true}, "a/f.py:2:two needle\na/f.py:4:needle\nb.py:1:a Needle"},
		{object{"pattern": "three$", "path": "src"}, "a/f.py:3:three"},
		{object{"pattern": "^needle", "path": "src", "glob": "a/**"}, "a/f.py:4:needle"},
		{object{"pattern": "^$", "path": "src"}, ""},
		{object{"pattern": "two.*\n?three|e$", "path": "src/a"}, "f.py:1:one\nf.py:2:two needle\nf.py:3:three\nf.py:4:needle"},
		{object{"pattern": "need[l]e", "path": "src/link"}, ""},
		{object{"pattern": "Need[l]e", "path": "src/link"}, "src/link:1:a Needle"},
		{object{"pattern": "needle", "path": "src/dirlink"}, "l:1:needle"},
		{object{"pattern": "needle", "path": "src/.git"}, "config:1:needle"},
		{object{"pattern": "needle", "path": "src/a", "limit": 1}, "f.py:2:two needle"},
		{object{"pattern": "x*", "path": "src/a/f.py", "limit": 1}, "src/a/f.py:1:one"},
	} {
		if got := lines(g.search(c.req)); got != c.want {
			t.Errorf("%v:\n%s", c.req, got)
		}
	}
	out := g.search(object{"pattern": "needle", "path": "src"})
	if out["files_searched"] != 7.0 || out["omitted"] != 0.0 || out["stopped"] != nil {
		t.Errorf("%v", out)
	}
	if last := list(out["matches"])[5]; last["path_base64"] != base64.StdEncoding.EncodeToString([]byte("bad\xff")) {
		t.Errorf("%v", last)
	}
	out = g.search(object{"pattern": "t", "path": "src/a", "context": 1, "limit": 1})
	m := list(out["matches"])[0]
	if fmt.Sprint(m["before"], m["after"], out["omitted"]) != "[one] [three] 1" {
		t.Errorf("%v", out)
	}
	m = list(g.search(object{"pattern": "^needle", "path": "src/a", "context": 5})["matches"])[0]
	if fmt.Sprint(m["before"], m["after"]) != "[one two needle three] <nil>" {
		t.Errorf("%v", m)
	}
	for code, req := range map[string]object{"FILE_NOT_FOUND": {"pattern": "a", "path": "nope"}, "PERMISSION_DENIED": {"pattern": "a", "path": "src/locked"},
		"FILE_INVALID": {"pattern": "a", "path": "src/fifo"}} {
		g.refused(code, "POST", "/v1/files/search", req)
	}
	for _, bad := range []object{{}, {"pattern": "("}, {"pattern": `(a)\1`}, {"pattern": "a", "limit": 501}, {"pattern": "a", "limit": 0}, {"pattern": "a", "context": 6},
		{"pattern": "a", "glob": "["}, {"pattern": strings.Repeat("a", 1025)}, {"pattern": strings.Repeat("(x{30}){30}", 40)}} {
		g.refused("INVALID_ARGUMENT", "POST", "/v1/files/search", bad)
	}
	g.refused("PERMISSION_DENIED", "POST", "/v1/files/search", object{"pattern": "a", "path": "/proc"})
	g.refused("PERMISSION_DENIED", "POST", "/v1/files/search", object{"pattern": "SECRET", "path": fmt.Sprintf("/proc/%d/environ", g.cmd.Process.Pid)})
	if out := g.search(object{"pattern": "do-not-inherit", "path": "/", "glob": "environ"}); len(list(out["matches"])) > 0 {
		t.Error("searched the guest itself")
	}
}

func TestSearchHonoursIgnoreFiles(t *testing.T) {
	g := serve(t)
	g.sh(`mkdir -p p/node_modules/x p/build/keep p/src/build p/src/deep; for f in node_modules/x/1 build/2 build/keep/3 src/build/4 src/5.log src/6.log src/deep/7.log src/8 src/deep/9; do echo hit > p/$f; done
		printf 'node_modules/\n/build/*\n!/build/keep\n*.log\n' > p/.gitignore; printf '!6.log\n/8\n' > p/src/.gitignore; printf '*\n' > .gitignore; mkfifo p/src/deep/.gitignore`)
	paths := func(path string) string {
		var all []string
		for _, m := range list(g.search(object{"pattern": "hit", "path": path})["matches"]) {
			all = append(all, m["path"].(string))
		}
		return strings.Join(all, " ")
	}
	for path, want := range map[string]string{"p": "build/keep/3 src/6.log src/build/4 src/deep/9", "p/node_modules": "x/1", "p/src": "5.log 6.log build/4 deep/7.log deep/9", ".": ""} {
		if got := paths(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// searchAll searches again what a machine that stands still left no time for.
func (g *guest) searchAll(req object) (out object) {
	g.t.Helper()
	for range 5 {
		if out = g.search(req); out["stopped"] != "time" {
			break
		}
	}
	return out
}

func TestSearchIsBounded(t *testing.T) {
	g := serve(t)
	g.sh(`seq 20000 > many; mkdir huge; cd huge; seq -f '%06.0f' 100000 | xargs touch; echo needle > 099999; cd ..; truncate -s 65M big; echo needle >> big
		python3 -c "
open('long', 'w').write('a' * 5000 + 'é needle ' + 'b' * 5000 + '\nnext\n')
open('longest', 'w').write('x' * 3000000 + 'needle' + 'y' * 3000000 + 'needle\nlast\n')
open('edge', 'w').write(('z' * 262143 + '\n') + 'needle\n' + ('z' * 300000 + '\n') + 'needle\n')
"`)
	out := g.searchAll(object{"pattern": "[0-9]", "path": "many", "limit": 500})
	if len(list(out["matches"])) != 500 || out["omitted"] != 10000.0 {
		t.Errorf("%v", out["omitted"])
	}
	begin := time.Now()
	out = g.searchAll(object{"pattern": "needle", "path": "huge"})
	t.Logf("searched 100k files in %v", time.Since(begin))
	if lines(out) != "099999:1:needle" || out["files_searched"] != 100000.0 || out["stopped"] != nil {
		t.Errorf("%v", out)
	}
	begin = time.Now()
	if page := g.ok("GET", "/v1/files/list?path=huge&limit=1000", nil); len(list(page["entries"])) != 1000 || time.Since(begin) > limit(2*time.Second) {
		t.Errorf("a page of %d in %v", len(list(page["entries"])), time.Since(begin))
	}
	if out := g.searchAll(object{"pattern": "needle", "glob": "big"}); lines(out) != "" {
		t.Errorf("%v", out)
	}
	m := list(g.searchAll(object{"pattern": "needle", "path": "long"})["matches"])[0]
	if text := m["text"].(string); utf8.RuneCountInString(text) != 500 || !strings.Contains(text, "é needle b") {
		t.Errorf("%q", text)
	}
	if got := g.searchAll(object{"pattern": "needle|last", "path": "longest"}); len(list(got["matches"])) != 2 || list(got["matches"])[1]["line"] != 2.0 {
		t.Errorf("%v", got)
	}
	if got := lines(g.searchAll(object{"pattern": "needle", "path": "edge"})); got != "edge:2:needle\nedge:4:needle" {
		t.Errorf("%v", got)
	}
	// A pattern and a file that would take minutes end in time, and at once when nobody waits.
	g.sh("for i in $(seq 60); do head -c 1000000 /dev/zero | tr '\\0' a; done > slow")
	slow := object{"pattern": "(a?){200}(b?){200}[cd]", "path": "slow"}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://guest/v1/files/search", strings.NewReader(`{"pattern":"(a?){200}(b?){200}[cd]","path":"slow"}`))
	if _, err := g.client.Do(req); err == nil {
		t.Error("the search was over before it was given up")
	}
	begin = time.Now()
	if out := g.search(slow); out["stopped"] != "time" || time.Since(begin) > limit(12*time.Second) {
		t.Errorf("%v after %v", out, time.Since(begin))
	}
}

func TestSearchOverTenThousandFiles(t *testing.T) {
	g := serve(t)
	g.sh(`python3 -c "
import os
for d in range(100):
    os.makedirs(f'tree/d{d}')
    for i in range(100):
        open(f'tree/d{d}/f{i}.py', 'w').write(''.join(f'def function_{i}_{n}(x): return x + {n}\n' for n in range(100)))
"`)
	for _, pattern := range []string{"function_99_99", "FUNCTION_99_9[89]", `\bx \+ 9\d\b`} {
		begin := time.Now()
		out := g.search(object{"pattern": pattern, "path": "tree", "ignore_case": true})
		took := time.Since(begin)
		t.Logf("%s: %v files, %d matches in %v", pattern, out["files_searched"], len(list(out["matches"])), took)
		if len(list(out["matches"])) != 100 || took > limit(10*time.Second) {
			t.Errorf("%v in %v", len(list(out["matches"])), took)
		}
	}
	begin := time.Now()
	out := g.search(object{"pattern": "function_99_99", "path": "tree"})
	t.Logf("literal: %v files in %v", out["files_searched"], time.Since(begin))
}
