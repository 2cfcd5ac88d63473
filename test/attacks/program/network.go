package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// network reaches for the host, for the engine and for the guest's own socket.
var network = map[string]attack{
	"tcp":            func(args []string) (string, error) { return dial("tcp", args) },
	"interfaces":     interfaces,
	"engine-socket":  engineSocket,
	"raw-socket":     func([]string) (string, error) { return socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP) },
	"packet-socket":  func([]string) (string, error) { return socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300) },
	"odd-socket":     oddSocket,
	"guest-connect":  func([]string) (string, error) { return dial("unix", []string{guestSocket}) },
	"guest-unlink":   guestUnlink,
	"guest-folder":   guestFolder,
	"guest-takeover": guestTakeover,
}

func dial(kind string, targets []string) (string, error) {
	err := untried("no target")
	for _, target := range targets {
		var conn net.Conn
		if conn, err = net.DialTimeout(kind, target, 2*time.Second); err == nil {
			conn.Close()
			return target, nil
		}
	}
	return "", err
}

func interfaces([]string) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", untried("%v", err)
	}
	var names []string
	for _, one := range all {
		if one.Flags&net.FlagLoopback == 0 && one.Flags&net.FlagUp != 0 {
			names = append(names, one.Name)
		}
	}
	if len(names) == 0 {
		return "", syscall.ENETUNREACH
	}
	return strings.Join(names, " "), nil
}

// engineSocket asks an engine for its version, wherever hosts keep its socket.
func engineSocket(args []string) (string, error) {
	err := untried("no path")
	for _, path := range append(args, "/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock") {
		var conn net.Conn
		if conn, err = net.DialTimeout("unix", path, 2*time.Second); err != nil {
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprint(conn, "GET /version HTTP/1.0\r\n\r\n")
		var line string
		if line, err = bufio.NewReader(conn).ReadString('\n'); err == nil {
			return path + " " + strings.TrimSpace(line), nil
		}
	}
	return "", err
}

func socket(family, kind, protocol int) (string, error) {
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, protocol)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	return "open", nil
}

// oddSocket opens a kind of socket that no network namespace holds back, or that is rarely used code of the kernel.
func oddSocket([]string) (string, error) {
	refusal := error(syscall.EAFNOSUPPORT)
	for name, family := range map[string]int{"vsock": 40, "alg": 38, "bluetooth": 31, "tipc": 30, "can": 29, "rds": 21, "kcm": 41} {
		for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_SEQPACKET, syscall.SOCK_DGRAM, syscall.SOCK_RAW} {
			_, err := socket(family, kind, 0)
			if err == nil {
				return name, nil
			}
			if !errors.Is(err, syscall.EAFNOSUPPORT) {
				refusal = fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return "", refusal
}

func guestUnlink([]string) (string, error) {
	if err := os.Rename(guestSocket, guestSocket+".old"); err != nil {
		return "", err
	}
	return "moved", os.Rename(guestSocket+".old", guestSocket)
}

func guestFolder([]string) (string, error) {
	return firstBreach(map[string]func() error{
		"chmod":  func() error { return os.Chmod(filepath.Dir(guestSocket), 0o777) },
		"rename": func() error { return os.Rename(filepath.Dir(guestSocket), filepath.Dir(guestSocket)+".old") },
		"list":   func() error { _, err := os.ReadDir(filepath.Dir(guestSocket)); return err },
		"enter":  func() error { return os.Chdir(filepath.Dir(guestSocket)) },
	})
}

// guestTakeover puts a socket of its own where the bridges look for the guest's.
func guestTakeover([]string) (string, error) {
	at := filepath.Join(filepath.Dir(guestSocket), "mine.sock")
	listener, err := net.Listen("unix", at)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return at, nil
}
