package files

import (
	"strings"
)

// entryName is the clean relative name; empty for the root itself.
func entryName(name string) (string, error) {
	switch {
	case strings.HasPrefix(name, "/"):
		return "", refusal("an absolute name")
	case len(name) > maxPath:
		return "", refusal("the name is too long")
	case strings.ContainsRune(name, 0):
		return "", refusal("the name contains a NUL character")
	}
	var parts []string
	for _, part := range strings.Split(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", refusal("the name contains ..")
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), nil
}

// staysInside refuses targets that leave the root. The directories a name leads through are no links, so going up from
// there is safe to count; going up behind any other name is not, as that may be a link to elsewhere.
func staysInside(name, target string) error {
	if target == "" || len(target) > maxPath || strings.ContainsRune(target, 0) {
		return refusal("a symlink without a target that can be")
	}
	if target[0] == '/' {
		return refusal("a symlink to an absolute path")
	}
	up, down := 0, false
	for _, part := range strings.Split(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if up++; down {
				return refusal("a symlink that goes up again behind a name")
			}
		default:
			down = true
		}
	}
	if up > strings.Count(name, "/") {
		return refusal("a symlink that leaves the path")
	}
	return nil
}
