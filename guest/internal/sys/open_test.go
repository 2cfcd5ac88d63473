package sys

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadPlainReadsRegularFilesOnlyAndOnlySoMuch(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte(strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want int
	}{{name, 40}, {fifo, -1}, {dir, -1}, {"/dev/zero", -1}, {filepath.Join(dir, "none"), -1}} {
		text, err := ReadPlain(c.path, 40)
		if (err == nil) != (c.want >= 0) || err == nil && len(text) != c.want {
			t.Errorf("%s: %d bytes, %v", c.path, len(text), err)
		}
	}
	if text, err := ReadPlain(name, 4096); err != nil || len(text) != 100 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
