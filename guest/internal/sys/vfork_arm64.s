#include "textflag.h"

// func vfork(flags uintptr, pid *int32) uintptr
// The child runs first, on this very stack; the return address is in a register.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-24
	MOVD	flags+0(FP), R0
	MOVD	$0, R1
	MOVD	pid+8(FP), R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$220, R8 // clone
	SVC
	MOVD	R0, ret+16(FP)
	RET
