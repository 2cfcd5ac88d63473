import type { Core } from "./core.ts";
import { isTerminal } from "./lifecycle.ts";
import type { StatsReader } from "./stats.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { StatsView } from "./views.ts";
import { pause } from "./wait.ts";

export interface SamplerTiming {
  /** Between two samples of a sandbox nobody looks at. */
  sampleMs: number;
  /** The same while somebody does, or while it runs hot. */
  watchedMs: number;
}

/**
 * Takes samples to be told: of every sandbox this process keeps now and then, of those its callers look at, and of those near a
 * limit, more often. A sandbox whose guest does not answer is asked again in its turn and holds up no other.
 */
export class Sampler {
  readonly #core: Core;
  readonly #stats: StatsReader;
  readonly #timing: SamplerTiming;
  readonly #tell: (record: SandboxRecord, stats: StatsView) => void;
  readonly #asked = new Map<string, number>();
  readonly #answering = new Set<string>();
  /** Sandboxes to sample whether or not somebody looks at them. */
  readonly #kept = new Set<string>();
  #lookedAt = -Infinity;

  constructor(
    core: Core,
    stats: StatsReader,
    timing: SamplerTiming,
    tell: (record: SandboxRecord, stats: StatsView) => void,
  ) {
    this.#core = core;
    this.#stats = stats;
    this.#timing = timing;
    this.#tell = tell;
  }

  /** @param kept the sandboxes this process keeps at the moment */
  async run(kept: () => SandboxRecord[], signal: AbortSignal): Promise<void> {
    const { sampleMs, watchedMs } = this.#timing;
    while (!signal.aborted) {
      await pause(Math.min(sampleMs, watchedMs), signal);
      if (signal.aborted) return;
      const now = performance.now();
      const watched = this.#stats.watched();
      // All of them are read now and then only: what comes meanwhile is told to `keep`, what ended leaves at its turn.
      if (now - this.#lookedAt >= sampleMs) {
        this.#lookedAt = now;
        this.keep(kept());
        for (const id of this.#asked.keys()) {
          if (!this.#kept.has(id) && !watched.includes(id)) this.#asked.delete(id);
        }
      }
      for (const id of new Set([...this.#kept, ...watched])) this.#sampleIfDue(id, now, signal);
    }
  }

  /** Sandboxes that this process keeps from now on. */
  keep(sandboxes: readonly SandboxRecord[]): void {
    for (const { sandbox_id: id } of sandboxes) this.#kept.add(id);
  }

  /** Something happened there that the next sample is not to wait for. */
  soon(sandboxId: string): void {
    this.#asked.delete(sandboxId);
  }

  /** Other sandboxes are kept here than before. */
  lookAgain(): void {
    this.#kept.clear();
    this.#lookedAt = -Infinity;
  }

  #sampleIfDue(id: string, now: number, signal: AbortSignal): void {
    if (this.#answering.has(id)) return;
    const { sampleMs, watchedMs } = this.#timing;
    const every = this.#stats.isOfInterest(id) ? watchedMs : sampleMs;
    // A round comes a little early at times.
    if (now - (this.#asked.get(id) ?? -Infinity) < every * 0.9) return;
    const state = this.#core.store.sandbox(id)?.state;
    if (state !== "running" && state !== "paused") {
      if (state === undefined || isTerminal(state)) this.#kept.delete(id);
      return;
    }
    this.#asked.set(id, now);
    this.#answering.add(id);
    this.#stats
      .sample(id)
      .then((stats) => {
        // As it is by now: the answer may have taken long.
        const record = this.#core.store.sandbox(id);
        if (record && !isTerminal(record.state) && !signal.aborted) this.#tell(record, stats);
      })
      .catch(() => {})
      .finally(() => this.#answering.delete(id));
  }
}
