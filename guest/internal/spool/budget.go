package spool

import "sync"

// BudgetMax is the memory all spools of a sandbox share.
const BudgetMax = 32 << 20

// Budget accounts the memory of all spools and takes some back when it runs out.
type Budget struct {
	mu     sync.Mutex
	max    int64
	used   int64
	born   uint64
	spools map[*Spool]struct{}
	// OnEvict hears of each eviction, so that memory can be returned to the system.
	OnEvict func()
}

// NewBudget makes a budget of max bytes.
func NewBudget(max int64) *Budget {
	return &Budget{max: max, spools: map[*Spool]struct{}{}}
}

// Used is the number of bytes allocated now.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *Budget) add(s *Spool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.born++
	s.born = b.born
	b.spools[s] = struct{}{}
}

func (b *Budget) remove(s *Spool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.spools[s]; ok {
		freed, _ := s.giveUp()
		b.used -= freed
		delete(b.spools, s)
	}
}

func (b *Budget) release(n int64) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
}

// reserve accounts n bytes: first the oldest ended spool pays with all it has, then the largest running one with a chunk.
func (b *Budget) reserve(n int) {
	for _, s := range b.collect(n) {
		s.tellLoss()
	}
}

// collect is reserve without telling; it returns the spools of running processes that lost their first byte by it.
func (b *Budget) collect(n int) (losers []*Spool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += int64(n)
	for b.used > b.max {
		payer := b.payer()
		if payer == nil {
			return losers
		}
		freed, firstLoss := payer.giveUp()
		if freed == 0 {
			return losers
		}
		if firstLoss {
			losers = append(losers, payer)
		}
		b.used -= freed
		if b.OnEvict != nil {
			b.OnEvict()
		}
	}
	return losers
}

func (b *Budget) payer() *Spool {
	var oldest, largest *Spool
	var most int64
	for s := range b.spools {
		s.mu.Lock()
		cost, sealed, born := s.cost, s.sealed, s.born
		s.mu.Unlock()
		if cost == 0 {
			continue
		}
		if sealed && (oldest == nil || born < oldest.born) {
			oldest = s
		}
		if cost > most {
			largest, most = s, cost
		}
	}
	if oldest != nil {
		return oldest
	}
	return largest
}
