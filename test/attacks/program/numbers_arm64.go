package main

const (
	sysPrlimit64       = 261
	sysProcessVMWritev = 271
	sysNameToHandle    = 264
	sysOpenByHandle    = 265
	sysRenameat2       = 276
	sysSetns           = 268
	sysBpf             = 280
	sysKeyctl          = 219
	sysPerfEventOpen   = 241
)
