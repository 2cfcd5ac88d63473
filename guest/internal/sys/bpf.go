package sys

import "syscall"

// rule is one instruction of the kernel's classic BPF, with names for where it jumps; no name is the next one.
type rule struct {
	name            string
	code            uint16
	k               uint32
	then, otherwise string
}

func load(offset uint32) rule {
	return rule{code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS, k: offset}
}

func and(mask uint32) rule {
	return rule{code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, k: mask}
}

func equal(k uint32, then, otherwise string) rule {
	return rule{code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, k: k, then: then, otherwise: otherwise}
}

func answer(k uint32) rule {
	return rule{code: syscall.BPF_RET | syscall.BPF_K, k: k}
}

// at names an instruction.
func (r rule) at(name string) rule {
	r.name = name
	return r
}

// assemble turns names into distances, which count from the instruction after the jump.
func assemble(rules []rule) []syscall.SockFilter {
	at := map[string]int{}
	for i, r := range rules {
		if r.name != "" {
			at[r.name] = i
		}
	}
	filter := make([]syscall.SockFilter, len(rules))
	for i, r := range rules {
		distance := func(name string) uint8 {
			if name == "" {
				return 0
			}
			return uint8(at[name] - i - 1)
		}
		filter[i] = syscall.SockFilter{Code: r.code, Jt: distance(r.then), Jf: distance(r.otherwise), K: r.k}
	}
	return filter
}
