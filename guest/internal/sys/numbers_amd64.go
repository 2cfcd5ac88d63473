package sys

import "syscall"

const (
	sysFstatat   = syscall.SYS_NEWFSTATAT
	sysRenameat2 = 316
	sysSeccomp   = 317

	// Of i386.
	arch32       = 0x40000003
	socket32     = 359
	socketcall32 = 102
)
