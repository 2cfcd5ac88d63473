package sys

import "syscall"

const (
	sysFstatat   = syscall.SYS_FSTATAT
	sysRenameat2 = 276
	sysSeccomp   = 277
	sysSetrlimit = 164
	sysPrlimit64 = 261

	// Of 32-bit ARM.
	arch32       = 0x40000028
	socket32     = 281
	socketcall32 = 102
	setrlimit32  = 75
	prlimit32    = 369
	fcntl32      = 55
	fcntl3264    = 221
)
