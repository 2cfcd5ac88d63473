package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"
)

// kernel asks the kernel for what would take the container's walls down.
var kernel = map[string]attack{
	"mount-tmpfs":   func([]string) (string, error) { return mount("tmpfs", "tmpfs", 0, "") },
	"mount-proc":    func([]string) (string, error) { return mount("proc", "proc", 0, "") },
	"bind-root":     func([]string) (string, error) { return mount("/", "", syscall.MS_BIND|syscall.MS_REC, "") },
	"remount-root":  remountRoot,
	"umount":        umount,
	"mknod-disk":    mknodDisk,
	"chroot":        func([]string) (string, error) { return "/tmp", syscall.Chroot("/tmp") },
	"pivot-root":    func([]string) (string, error) { return "/tmp", syscall.PivotRoot("/tmp", "/tmp") },
	"unshare-user":  unshare(syscall.CLONE_NEWUSER),
	"unshare-mount": unshare(syscall.CLONE_NEWNS),
	"unshare-net":   unshare(syscall.CLONE_NEWNET),
	"unshare-pid":   unshare(syscall.CLONE_NEWPID),
	"unshare-ipc":   unshare(syscall.CLONE_NEWIPC),
	"unshare-uts":   unshare(syscall.CLONE_NEWUTS),
	"setns-self":    setnsSelf,
	"hostname":      func([]string) (string, error) { return "attacker", syscall.Sethostname([]byte("attacker")) },
	"open-handle":   openHandle,
	"proc-sys": func([]string) (string, error) {
		return writable("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/hostname",
			"/proc/sysrq-trigger", "/proc/sys/kernel/modprobe")
	},
	"proc-root": func([]string) (string, error) {
		return writable("/proc/irq/0/smp_affinity", "/proc/bus/pci/devices", "/proc/fs/nfsd", "/proc/mtrr", "/proc/sysrq-trigger")
	},
	"sys": func([]string) (string, error) {
		remount("/sys")
		return writable("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper", "/sys/power/state",
			"/sys/block/loop0/queue/read_ahead_kb")
	},
	"kernel-memory":   func([]string) (string, error) { return readable("/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/port") },
	"cgroup-procs":    cgroupProcs,
	"cgroup-limits":   cgroupLimits,
	"release-agent":   releaseAgent,
	"root-file":       rootFile,
	"guest-binary":    func([]string) (string, error) { return writable("/.chorus/guest") },
	"bpf":             func([]string) (string, error) { return asked(sysBpf, 0xffff, 0, 0, syscall.EINVAL) },
	"perf-kernel":     perfKernel,
	"clock":           clock,
	"kernel-log":      kernelLog,
	"file-lease":      fileLease,
	"session-keyring": func([]string) (string, error) { return asked(sysKeyctl, 0, ^uintptr(2), 1) },
}

// asked makes a call whose arguments mean nothing: those errors are the kernel's answer to who may.
func asked(number, a, b, c uintptr, mayErrors ...syscall.Errno) (string, error) {
	_, _, e := syscall.Syscall(number, a, b, c)
	for _, passed := range mayErrors {
		if e == passed {
			return "allowed, then " + errnoName(e), nil
		}
	}
	if e != 0 {
		return "", e
	}
	return "allowed", nil
}

func mount(source, kind string, flags uintptr, data string) (string, error) {
	at, err := os.MkdirTemp("/tmp", "mount")
	if err != nil {
		return "", untried("%v", err)
	}
	defer os.Remove(at)
	if err := syscall.Mount(source, at, kind, flags, data); err != nil {
		return "", err
	}
	return at, syscall.Unmount(at, syscall.MNT_DETACH)
}

func remountRoot([]string) (string, error) {
	return "writable", syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
}

// umount takes away what masks /proc and /sys; an address that is no mount is the answer after the check of rights.
func umount([]string) (string, error) {
	err := syscall.Unmount("/tmp/nothing-mounted-here", syscall.MNT_DETACH)
	if err == syscall.ENOENT || err == syscall.EINVAL {
		err = syscall.Unmount("/proc/sys", syscall.MNT_DETACH)
		if err == syscall.EINVAL {
			return "allowed", nil
		}
	}
	return "/proc/sys", err
}

// mknodDisk makes a node of the machine's first disk; opening it would need the devices cgroup as well.
func mknodDisk([]string) (string, error) {
	at := filepath.Join(os.TempDir(), "disk")
	defer os.Remove(at)
	return at, syscall.Mknod(at, syscall.S_IFBLK|0o600, 8<<8)
}

// readable opens and reads. What the engine hides it covers with an empty file or with /dev/null.
func readable(paths ...string) (string, error) {
	return firstOf(paths, func(path string) error {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		text := make([]byte, 16<<10)
		n, err := syscall.Read(fd, text)
		if err == nil && n == 0 {
			return syscall.EACCES
		}
		return err
	})
}

// unshare starts a child in namespaces of its own, which is where exploits of the kernel begin.
func unshare(flags uintptr) attack {
	return func([]string) (string, error) {
		child := exec.Command("/proc/self/exe", "nothing")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		return "a namespace of its own", child.Run()
	}
}

func setnsSelf([]string) (string, error) {
	fd, err := syscall.Open("/proc/self/ns/net", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", untried("%v", err)
	}
	if _, _, e := syscall.RawSyscall(sysSetns, uintptr(fd), syscall.CLONE_NEWNET, 0); e != 0 {
		return "", e
	}
	return "entered", nil
}

// openHandle is how a container once read the host's files: by their inode numbers, past the container's root.
func openHandle([]string) (string, error) {
	type fileHandle struct {
		size uint32
		kind int32
		data [128]byte
	}
	handle := fileHandle{size: 128}
	var mountID int32
	dot := []byte("/etc\x00")
	at := ^uintptr(99) // AT_FDCWD
	if _, _, e := syscall.Syscall6(sysNameToHandle, at, uintptr(unsafe.Pointer(&dot[0])), uintptr(unsafe.Pointer(&handle)),
		uintptr(unsafe.Pointer(&mountID)), 0, 0); e != 0 && e != syscall.EOPNOTSUPP {
		return "", e
	}
	root, err := syscall.Open("/etc", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", untried("%v", err)
	}
	_, _, e := syscall.Syscall(sysOpenByHandle, uintptr(root), uintptr(unsafe.Pointer(&handle)), syscall.O_RDONLY)
	// A handle that this file system does not know is the answer after the check of rights.
	if e != 0 && e != syscall.ESTALE && e != syscall.EINVAL {
		return "", e
	}
	return "opened", nil
}

// remount takes away the read-only of a mount, where one may.
func remount(at string) {
	_ = syscall.Mount("", at, "", syscall.MS_REMOUNT, "")
	_ = syscall.Mount("", at, "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
}

func remountCgroups() {
	for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"} {
		remount(at)
	}
}

func cgroupProcs([]string) (string, error) {
	remountCgroups()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"} {
		at := filepath.Join(root, "attack")
		if err := os.Mkdir(at, 0o755); err != nil {
			continue
		}
		defer os.Remove(at)
		err := os.WriteFile(filepath.Join(at, "cgroup.procs"), []byte("0"), 0)
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte("0"), 0)
		return at, err
	}
	return writable("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs")
}

func cgroupLimits([]string) (string, error) {
	remountCgroups()
	return writable("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids.max",
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cgroup.procs")
}

// releaseAgent mounts a hierarchy whose empty groups make the kernel run a program on the host.
func releaseAgent([]string) (string, error) {
	at, err := os.MkdirTemp("/tmp", "cgroup")
	if err != nil {
		return "", untried("%v", err)
	}
	defer os.Remove(at)
	if err := syscall.Mount("cgroup", at, "cgroup", 0, "none,name=attack"+strconv.Itoa(os.Getpid())); err != nil {
		return "", err
	}
	defer syscall.Unmount(at, syscall.MNT_DETACH)
	return writable(filepath.Join(at, "release_agent"))
}

func rootFile([]string) (string, error) {
	ways := map[string]func() error{}
	for _, path := range []string{"/x", "/etc/x", "/bin/x", "/usr/x", "/.chorus/x", "/run/chorus/x", "/etc/passwd"} {
		ways[path] = func() error {
			file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
			if err == nil {
				file.Close()
			}
			return err
		}
	}
	return firstBreach(ways)
}

// perfKernel watches the kernel itself; a structure of no size is the question whether one may.
func perfKernel([]string) (string, error) {
	attr := [16]uint64{0: 1 | 128<<32} // software event, size 128, the kernel included
	_, _, e := syscall.Syscall6(sysPerfEventOpen, uintptr(unsafe.Pointer(&attr[0])), 0, ^uintptr(0), ^uintptr(0), 0, 0)
	if e != 0 {
		return "", e
	}
	return "watching", nil
}

func clock([]string) (string, error) {
	var now syscall.Timespec
	if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 0, uintptr(unsafe.Pointer(&now)), 0); e != 0 {
		return "", untried("%v", e)
	}
	now.Nsec = 2_000_000_000 // no time at all: refused after the check of rights
	return asked(syscall.SYS_CLOCK_SETTIME, 0, uintptr(unsafe.Pointer(&now)), 0, syscall.EINVAL)
}

// kernelLog reads and clears the log of the kernel, of which it takes nothing.
func kernelLog([]string) (string, error) {
	var text [16]byte
	_, _, e := syscall.Syscall(syscall.SYS_SYSLOG, 4, uintptr(unsafe.Pointer(&text[0])), 0)
	if e != 0 {
		return "", e
	}
	return "cleared", nil
}

// fileLease makes whoever opens a file, or starts the program in it, wait for it to be given back.
func fileLease([]string) (string, error) {
	file, err := os.CreateTemp("/tmp", "lease")
	if err != nil {
		return "", untried("%v", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	const setLease, setDelegation = 1024, 1040
	ways := map[string]func() error{}
	for name, command := range map[string]uintptr{"lease": setLease, "delegation": setDelegation} {
		ways[name] = func() error {
			if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), command, syscall.F_WRLCK); e != 0 {
				return e
			}
			return nil
		}
	}
	return firstBreach(ways)
}
