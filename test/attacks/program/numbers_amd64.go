package main

const (
	sysPrlimit64       = 302
	sysProcessVMWritev = 311
	sysNameToHandle    = 303
	sysOpenByHandle    = 304
	sysRenameat2       = 316
	sysSetns           = 308
	sysBpf             = 321
	sysKeyctl          = 250
	sysPerfEventOpen   = 298
)
