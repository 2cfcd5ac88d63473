package sandbox

import (
	"bytes"
	"strconv"

	"chorus-sandbox/guest/internal/sys"
)

const (
	fallbackName = "sandbox"
	passwdFile   = "/etc/passwd"
	passwdMax    = 1 << 20
)

// userName is what /etc/passwd calls the uid, so that USER and `id -un` agree; a plain name where it has no entry. The file
// may be the image's.
func userName(uid int) string {
	text, err := sys.ReadPlain(passwdFile, passwdMax)
	if err != nil {
		return fallbackName
	}
	wanted := strconv.Itoa(uid)
	for line := range bytes.Lines(text) {
		fields := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		if len(fields) >= 3 && string(fields[2]) == wanted && len(fields[0]) > 0 {
			return string(fields[0])
		}
	}
	return fallbackName
}
