package sys

import "syscall"

const (
	sysFstatat   = syscall.SYS_FSTATAT
	sysRenameat2 = 276
	sysSeccomp   = 277

	// Of 32-bit ARM.
	arch32       = 0x40000028
	socket32     = 281
	socketcall32 = 102
)
