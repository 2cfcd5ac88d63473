package watch

// WhileWriting runs a file tool's work and looks at the workspace at its end. What fills up meanwhile is no command's doing.
func (w *Watch) WhileWriting(work func()) {
	w.mu.Lock()
	w.writing++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.checkWorkspace()
		w.writing--
	}()
	work()
}

func (w *Watch) checkWorkspace() {
	used, limit, ok := w.disk()
	if !ok || limit == 0 {
		return
	}
	percent := used * 100 / limit
	level := w.full
	switch {
	case percent >= 99:
		level = 2
	case percent < 70:
		level = 0
	case percent < 80 && w.full == 2:
		level = 1
	case percent >= 80 && w.full == 0:
		level = 1
	}
	if level > w.full {
		id := w.only()
		if w.writing > 0 {
			id = ""
		}
		w.limit("workspace", used, limit, id)
	}
	w.full = level
}
