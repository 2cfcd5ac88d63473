package facts

import (
	"encoding/json"

	"chorus-sandbox/guest/internal/fault"
)

const (
	// mostChanges and mostChangeBytes bound the paths in one fact; what is beyond is counted.
	mostChanges     = 200
	mostChangeBytes = 8 << 10
	maxID           = 64
	maxMeta         = 2 << 10
)

// Change is what became of one path.
type Change struct {
	Path      string `json:"path"`
	Op        string `json:"op"`
	SizeBytes *int64 `json:"size_bytes"`
}

// Tell is what a server sends along with a change, of files or of a pause, and finds again in the fact of it.
type Tell struct {
	ID         string          `json:"id"`
	Op         string          `json:"op"` // of files that were there before; write when empty
	Meta       json.RawMessage `json:"meta"`
	FactsAfter *uint64         `json:"facts_after"`
}

// Check refuses what does not fit into a fact.
func (t *Tell) Check() error {
	switch {
	case t == nil:
		return nil
	case t.ID == "" || len(t.ID) > maxID:
		return fault.New(fault.InvalidArgument, "tell.id has 1 to %d characters", maxID)
	case t.Op != "" && t.Op != "write" && t.Op != "edit":
		return fault.New(fault.InvalidArgument, "tell.op is write or edit")
	case len(t.Meta) > maxMeta:
		return fault.New(fault.InvalidArgument, "tell.meta is larger than %d bytes", maxMeta)
	}
	return nil
}

// Fields are those of the fact of a change. Without a tell there are none.
func (t *Tell) Fields() Fields {
	fields := Fields{}
	if t != nil {
		fields["change_id"] = t.ID
		if len(t.Meta) > 0 {
			fields["meta"] = t.Meta
		}
	}
	return fields
}

// Changed records that files changed, at once: whoever reads facts decides how many make an event.
func (l *Log) Changed(t *Tell, all []Change) {
	if t == nil || len(all) == 0 {
		return
	}
	changes, room := []Change{}, mostChangeBytes
	for _, change := range all[:min(len(all), mostChanges)] {
		text, _ := json.Marshal(change.Path)
		if room -= len(text); room < 0 {
			break
		}
		changes = append(changes, change)
	}
	fields := t.Fields()
	fields["changes"] = changes
	if omitted := len(all) - len(changes); omitted > 0 {
		fields["omitted"] = omitted
	}
	l.Record("files", fields)
}
