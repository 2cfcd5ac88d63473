import type { Core } from "./core.ts";
import type { StatsReader } from "./stats.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { StatsView } from "./views.ts";
import { deadline, pause } from "./wait.ts";

export interface SamplerTiming {
  /** Between two samples of a sandbox nobody looks at. */
  sampleMs: number;
  /** The same while somebody does, or while it runs hot. */
  watchedMs: number;
}

const answerMs = 5_000;

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
      const watched = this.#stats.watched().flatMap((id) => this.#core.store.sandbox(id) ?? []);
      const due = new Map([...kept(), ...watched].map((record) => [record.sandbox_id, record]));
      for (const id of this.#asked.keys()) if (!due.has(id)) this.#asked.delete(id);
      for (const record of due.values()) this.#sampleIfDue(record, signal);
    }
  }

  /** Something happened there that the next sample is not to wait for. */
  soon(sandboxId: string): void {
    this.#asked.delete(sandboxId);
  }

  #sampleIfDue(record: SandboxRecord, signal: AbortSignal): void {
    const { sandbox_id: id, state } = record;
    if (state !== "running" && state !== "paused") return;
    const { sampleMs, watchedMs } = this.#timing;
    const now = performance.now();
    const every = this.#stats.isOfInterest(id) ? watchedMs : sampleMs;
    // A round comes a little early at times.
    if (now - (this.#asked.get(id) ?? -Infinity) < every * 0.9) return;
    this.#asked.set(id, now);
    this.#stats.sample(id, deadline(answerMs, signal)).then(
      (stats) => this.#tell(record, stats),
      () => {},
    );
  }
}
