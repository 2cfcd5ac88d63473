package main

import (
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const guestSocket = "/run/chorus/guest.sock"

// idle is a main process like any image has: it keeps a socket, minds no signal, and is as open as programs are.
func idle([]string) (string, error) {
	ignored := make(chan os.Signal, 64)
	signal.Notify(ignored)
	if os.Getpid() == 1 {
		_ = os.MkdirAll(filepath.Dir(guestSocket), 0o700)
		if listener, err := net.Listen("unix", guestSocket); err == nil {
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					conn.Close()
				}
			}()
		}
	}
	for range ignored {
		// Whatever the orphans of an attack were, they are gone when they end.
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return "", nil
}

// prepare makes, as root, the image that hostile images could be: programs with rights, and a file only root may read.
func prepare([]string) (string, error) {
	for _, at := range []string{setuidCopy, capsCopy} {
		if err := copyFile("/attack", at); err != nil {
			return "", untried("%v", err)
		}
	}
	if err := os.Chmod(setuidCopy, 0o755|os.ModeSetuid); err != nil {
		return "", untried("%v", err)
	}
	// Version 2 of the format, effective: CAP_NET_RAW and CAP_SYS_CHROOT, which engines leave to every container.
	caps := []byte{1, 0, 0, 2, 0, 0x20, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := syscall.Setxattr(capsCopy, "security.capability", caps, 0); err != nil {
		return "", untried("%v", err)
	}
	for _, folder := range []string{"/secrets", "/.chorus"} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return "", untried("%v", err)
		}
	}
	if err := copyFile("/attack", "/.chorus/guest"); err != nil {
		return "", untried("%v", err)
	}
	return "prepared", os.WriteFile("/secrets/f", []byte("top secret\n"), 0o600)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
