package files

import (
	"archive/tar"
	"context"
	"io"
	"syscall"

	"chorus-sandbox/guest/internal/sys"
)

// file writes beside the name and then takes its place, so that nobody sees half a file.
func (x *extractor) file(name string, h *tar.Header) error {
	if h.Size > smallFile {
		return x.largeFile(name, h)
	}
	if x.used+int(h.Size) > len(x.buf) {
		if err := x.flush(); err != nil {
			return err
		}
	}
	content := x.buf[x.used : x.used+int(h.Size)]
	if _, err := io.ReadFull(x.tar, content); err != nil {
		return x.broken(err)
	}
	x.used += len(content)
	run := func(parent int, base string) error {
		temp, fd, err := beside(parent)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err = writeFull(fd, content); err == nil {
			err = settle(fd, parent, temp, base, h)
		}
		if err != nil {
			_ = sys.Unlinkat(parent, temp, false)
		}
		return err
	}
	return x.submit(change{h.Name, name, run, func() { x.count(h) }})
}

func (x *extractor) count(h *tar.Header) {
	x.out.Files++
	x.out.Bytes += h.Size
}

// largeFile writes as the content comes.
func (x *extractor) largeFile(name string, h *tar.Header) error {
	if err := x.flush(); err != nil {
		return err
	}
	temp, fd, at := "", -1, -1
	defer func() {
		if fd >= 0 {
			_ = x.f.pool.Do(context.WithoutCancel(x.ctx), func() {
				syscall.Close(fd)
				_ = sys.Unlinkat(at, temp, false)
				syscall.Close(at)
			})
		}
	}()
	for left := h.Size; left > 0; {
		n, err := io.ReadFull(x.tar, x.buf[:min(left, int64(len(x.buf)))])
		if err != nil {
			return x.broken(err)
		}
		left -= int64(n)
		taken := false
		run := func(parent int, base string) (err error) {
			if fd < 0 {
				if at, err = sys.Dup(parent); err != nil {
					return err
				}
				if temp, fd, err = beside(at); err != nil {
					syscall.Close(at)
					return err
				}
			}
			if err = writeFull(fd, x.buf[:n]); err == nil && left == 0 {
				err = settle(fd, at, temp, base, h)
			}
			return err
		}
		if err := x.submit(change{h.Name, name, run, func() { taken = true }}); err != nil {
			return err
		}
		if err := x.flush(); err != nil || !taken {
			return err
		}
	}
	syscall.Close(fd)
	syscall.Close(at)
	fd = -1
	x.count(h)
	return nil
}

// beside opens an empty file that is not yet what it will be.
func beside(dir int) (name string, fd int, err error) {
	name = tempName()
	const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	if fd, err = syscall.Openat(dir, name, flags, 0o600); err != nil {
		fd = -1
	}
	return name, fd, err
}

// settle gives a complete file its mode, its time and its name.
func settle(fd, parent int, temp, base string, h *tar.Header) error {
	if err := syscall.Fchmod(fd, uint32(h.Mode)&0o777); err != nil {
		return err
	}
	if err := sys.SetModified(fd, h.ModTime); err != nil {
		return err
	}
	return syscall.Renameat(parent, temp, parent, base)
}
