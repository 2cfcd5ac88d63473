package sandbox

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

const (
	fallbackName = "sandbox"
	passwdFile   = "/etc/passwd"
	passwdMax    = 10_000 // lines
)

// userName is what /etc/passwd calls the uid, so that USER and `id -un` agree; a plain name where it has no entry.
func userName(uid int) string {
	file, err := os.Open(passwdFile)
	if err != nil {
		return fallbackName
	}
	defer file.Close()
	wanted := strconv.Itoa(uid)
	lines := bufio.NewScanner(file)
	for n := 0; n < passwdMax && lines.Scan(); n++ {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) >= 3 && fields[2] == wanted && fields[0] != "" {
			return fields[0]
		}
	}
	return fallbackName
}
