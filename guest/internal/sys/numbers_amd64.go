package sys

import "syscall"

const (
	sysFstatat   = syscall.SYS_NEWFSTATAT
	sysRenameat2 = 316
	sysSeccomp   = 317
	sysSetrlimit = 160
	sysPrlimit64 = 302

	// Of i386.
	arch32       = 0x40000003
	socket32     = 359
	socketcall32 = 102
	setrlimit32  = 75
	prlimit32    = 340
	fcntl32      = 55
	fcntl3264    = 221
)
