package sys

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const header = "%x-%x %s 00000000 00:29 1234                       %s\n"

func block(from, to uintptr, rights, file string, anonymous int) string {
	return fmt.Sprintf(header, from, to, rights, file) +
		"Size:               4096 kB\nRss:                 100 kB\nAnonymous:      " + fmt.Sprint(anonymous) + " kB\nVmFlags: rd ex mr mw me\n"
}

func TestOnlyUnchangedMappingsOfTheProgramAreForgotten(t *testing.T) {
	smaps := block(0x1000, 0x2000, "r-xp", "/guest", 0) +
		block(0x2000, 0x3000, "r--p", "/guest", 0) +
		block(0x3000, 0x4000, "r--p", "/guest", 4) +
		block(0x4000, 0x5000, "rw-p", "/guest", 0) +
		block(0x5000, 0x6000, "r-xp", "/lib/other.so", 0) +
		fmt.Sprintf("%x-%x rw-p 00000000 00:00 0 \nAnonymous: 0 kB\n", 0x6000, 0x7000)
	got := unchanged([]byte(smaps), "/guest")
	if want := []mapping{{0x1000, 0x2000}, {0x2000, 0x3000}}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("forgets %x, want %x", got, want)
	}
}

func TestForgettingTheProgramMakesItSmallerAndItRunsOn(t *testing.T) {
	before := residentKB(t)
	ForgetProgram()
	after := residentKB(t)
	if after >= before {
		t.Fatalf("%d kB of the program were resident before, %d after", before, after)
	}
	// Code and constants come back.
	if got := strings.ToUpper(fmt.Sprintf("%v", []string{"still", "here"})); got != "[STILL HERE]" {
		t.Fatal(got)
	}
}

// residentKB is what the kernel counts of file pages.
func residentKB(t *testing.T) (kb int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "RssFile: %d kB", &kb); err == nil {
			return kb
		}
	}
	t.Fatal("no RssFile")
	return 0
}
