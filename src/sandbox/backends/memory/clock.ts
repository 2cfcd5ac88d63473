/** Where the memory backend takes its time from, so that a test can be its master. */
export interface Clock {
  /** Milliseconds on a clock that only goes forward. */
  now(): number;
  /** Calls once after that many milliseconds. Returns what takes it back. */
  after(ms: number, run: () => void): () => void;
}

/** Longest delay a timer takes; longer ones are slept in pieces by whoever needs them. */
const maxDelayMs = 2 ** 31 - 1;

/** The process's own time. Timers do not keep the process alive, as an engine in another process would not. */
export const realClock: Clock = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, Math.min(Math.max(ms, 0), maxDelayMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Stands still until it is told to move. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #due = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const entry = { at: this.#now + Math.max(ms, 0), run };
    this.#due.add(entry);
    return () => this.#due.delete(entry);
  }

  /** Moves forward and calls what falls due on the way, in order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#due].filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#due.delete(next);
      this.#now = next.at;
      next.run();
    }
    this.#now = end;
  }
}
