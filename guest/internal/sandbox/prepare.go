package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"chorus-sandbox/guest/internal/proc"
	"chorus-sandbox/guest/internal/sys"
)

// prepare makes the process and the directories what the rest relies on. It does everything itself instead of asking
// the engine: modes and owners of tmpfs mounts differ between engines.
func prepare(o Options, user proc.User) error {
	catchSignals()
	syscall.Umask(0o022)
	if err := sys.Undumpable(); err != nil {
		return fmt.Errorf("undumpable: %w", err)
	}
	if os.Getpid() != 1 {
		if err := sys.BecomeSubreaper(); err != nil {
			return fmt.Errorf("subreaper: %w", err)
		}
	}
	if err := directory(o.Workdir, 0o755, user); err != nil {
		return err
	}
	if err := directory(o.Tmp, 0o1777, proc.User{Uid: os.Geteuid(), Gid: os.Getegid()}); err != nil {
		return err
	}
	return directory(o.Run, 0o700, proc.User{Uid: os.Geteuid(), Gid: os.Getegid()})
}

// catchSignals takes every signal and does nothing about it: by default some would end PID 1. CHLD is the reaper's, and
// URG is the Go runtime's own.
func catchSignals() {
	ignored := make(chan os.Signal, 1)
	for sig := syscall.Signal(1); sig < 32; sig++ {
		if sig != syscall.SIGCHLD && sig != syscall.SIGURG {
			signal.Notify(ignored, sig)
		}
	}
}

// directory sets mode and owner through a descriptor: the mode first, as changing the mode of somebody else's directory
// would need a capability the guest does not have.
func directory(path string, mode uint32, owner proc.User) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: not an absolute path", path)
	}
	if err := syscall.Mkdir(path, mode); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("make %s: %w", path, err)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	self := uint32(os.Geteuid())
	if st.Uid != self && (st.Uid != uint32(owner.Uid) || st.Mode&0o7777 != mode) {
		if err := syscall.Fchown(fd, int(self), -1); err != nil {
			return fmt.Errorf("take %s: %w", path, err)
		}
		st.Uid = self
	}
	if st.Mode&0o7777 != mode {
		if err := syscall.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("chmod %s: %w", path, err)
		}
	}
	if st.Uid != uint32(owner.Uid) || st.Gid != uint32(owner.Gid) {
		if err := syscall.Fchown(fd, owner.Uid, owner.Gid); err != nil {
			return fmt.Errorf("chown %s: %w", path, err)
		}
	}
	return nil
}
