import type { Clock } from "./clock.ts";

/** Wakes whoever waits for a change of something. */
export class Notifier {
  #waiting: (() => void)[] = [];

  notify(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** Resolves when `ready`, after `ms`, or when the signal aborts, whichever is first. */
  async until(ready: () => boolean, ms: number, clock: Clock, signal: AbortSignal): Promise<void> {
    let over = ms <= 0;
    const stop = (): void => {
      over = true;
      this.notify();
    };
    const cancel = clock.after(ms, stop);
    signal.addEventListener("abort", stop, { once: true });
    try {
      while (!over && !signal.aborted && !ready()) await this.changed();
    } finally {
      cancel();
      signal.removeEventListener("abort", stop);
    }
  }
}
