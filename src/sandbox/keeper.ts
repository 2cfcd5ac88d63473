import { settleIfGone } from "./access.ts";
import type { EngineInfo } from "./backend.ts";
import { bootTime, leaseLeftMs, type Now } from "./boot-clock.ts";
import type { Core } from "./core.ts";
import { FactReaders } from "./fact-readers.ts";
import { inOtherHands } from "./lifecycle.ts";
import { PoolKeeper, poolTiming } from "./pool-keeper.ts";
import { reconcile } from "./reconcile.ts";
import { Sampler } from "./sampler.ts";
import type { StatsReader } from "./stats.ts";
import type { SandboxRecord, Store } from "./store/types.ts";
import { tail } from "./tail.ts";
import type { StatsView } from "./views.ts";
import { pause, within } from "./wait.ts";

const timing = {
  renewMs: 2_000,
  staleMs: 8_000,
  sweepMs: 5_000,
  pruneMs: 10 * 60_000,
  sampleMs: 10_000,
  watchedMs: 1_000,
  /** What a guest gets to end by itself what is to end. */
  overdueMs: 5_000,
  /** Long, because each question of each idle sandbox is work; an end of the stream is heard of at once. */
  factsWaitMs: 4 * 60_000,
  lingerMs: 25,
  ...poolTiming,
};

export interface KeeperOptions {
  /** Where samples go; they are not journaled. */
  onStats?: (record: SandboxRecord, stats: StatsView) => void;
  timing?: Partial<typeof timing>;
}

/**
 * The one process per install and engine that reads every guest's facts, watches the engine, samples, sweeps and prunes.
 * Every server process runs a candidate; the store elects.
 */
export class Keeper implements AsyncDisposable {
  readonly #core: Core;
  readonly #sampler: Sampler | undefined;
  readonly #timing: typeof timing;
  readonly #stop = new AbortController();
  readonly #readers: FactReaders;
  #pool: PoolKeeper | undefined;
  #term: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();
  /** Of this engine; unknown until it first answered. */
  #engine: EngineInfo | undefined;
  /** Something may be out of step with the engine. */
  #lookDue = false;
  #looking: Promise<void> | undefined;
  #complained = false;

  constructor(core: Core, stats: StatsReader, options: KeeperOptions = {}) {
    this.#core = core;
    this.#timing = { ...timing, ...options.timing };
    this.#sampler = options.onStats && new Sampler(core, stats, this.#timing, options.onStats);
    this.#readers = new FactReaders(core, this.#timing);
  }

  /** Becomes a candidate. Resolves after the first look at engine and store, when this process was elected, within a bound. */
  async start(waitMs: number): Promise<void> {
    const first = new Promise<void>((looked) => {
      this.#done = this.#candidate(looked);
    });
    // Not with the term: what callers of this process look at is sampled here, whoever keeps the sandboxes.
    this.#sampler
      ?.run(() => (this.#term ? this.#mine() : []), this.#stop.signal)
      .catch((err: unknown) => this.#complain(err));
    await within(first, waitMs);
  }

  async #candidate(looked: () => void): Promise<void> {
    const { store, backend } = this.#core;
    const { renewMs, staleMs } = this.#timing;
    const signal = this.#stop.signal;
    let renewed = 0;
    while (!signal.aborted) {
      try {
        const engine = await backend.engine(signal);
        this.#engine = engine;
        if (await store.roles.hold(this.#role, staleMs)) {
          // Closed while it asked: a term that began now would never end.
          if (signal.aborted) break;
          renewed = performance.now();
          if (!this.#term) {
            this.#begin(engine)
              .catch((err: unknown) => this.#complain(err))
              .finally(looked);
          }
        } else {
          this.#endTerm();
          looked();
        }
      } catch (err) {
        looked();
        // The others take over from who is silent for so long.
        if (performance.now() - renewed > staleMs) this.#endTerm();
        this.#complain(err);
      }
      await pause(renewMs, signal);
    }
  }

  get #role(): string {
    return `keeper:${this.#engine?.engine_id}`;
  }

  /** Takes up the work; resolves after the first look. */
  async #begin(engine: EngineInfo): Promise<void> {
    const term = new AbortController();
    const { signal } = term;
    this.#term = term;
    this.#core.logger.debug({ role: this.#role }, "this process keeps the sandboxes");
    const pool = new PoolKeeper(this.#core, engine, this.#timing, signal);
    this.#pool = pool;
    const guard = (name: string, work: Promise<void>) =>
      work.catch((err: unknown) => {
        if (!signal.aborted) this.#core.logger.error({ err }, `keeper: ${name} failed`);
      });
    const untail = tail(this.#core.store.journal, (entries) => {
      // Only these say that a sandbox came or went; an exec must not cost a look at all of them.
      if (entries.some(({ type }) => type.startsWith("lifecycle."))) {
        const mine = this.#mine();
        this.#readers.follow(mine);
        this.#sampler?.keep(mine);
      }
      for (const { type, sandbox_id } of entries) if (type.startsWith("limit.")) this.#sampler?.soon(sandbox_id);
      const ready = entries.filter(({ type }) => type === "lifecycle.ready" || type === "lifecycle.failed");
      if (ready.length > 0) pool.used(ready.map(({ sandbox_id: id }) => id));
    });
    signal.addEventListener("abort", untail, { once: true });
    this.#sampler?.lookAgain();
    this.#lookDue = true;
    void guard("watch", this.#watch(pool, signal));
    void guard("sweep", this.#sweep(pool, signal));
    await this.#look(signal);
  }

  #endTerm(): void {
    this.#term?.abort();
    this.#term = undefined;
    this.#sampler?.lookAgain();
    this.#readers.follow([]);
  }

  /** Compares with the engine when that is due; what does not succeed stays due for the next sweep. Never rejects. */
  #look(signal: AbortSignal): Promise<void> {
    this.#looking ??= (async () => {
      while (this.#lookDue && !signal.aborted) {
        this.#lookDue = false;
        try {
          const whole = await reconcile(this.#core, signal);
          this.#complained = false;
          if (!signal.aborted) this.#readers.follow(this.#mine());
          if (whole) continue;
        } catch (err) {
          this.#complain(err);
        }
        this.#lookDue = true;
        return;
      }
    })().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #watch(pool: PoolKeeper, signal: AbortSignal): Promise<void> {
    for await (const fact of this.#core.backend.watch(signal)) {
      if (fact.kind === "reconnected") {
        this.#lookDue = true;
        void this.#look(signal);
      } else if (fact.kind === "died" || fact.kind === "removed") {
        this.#settle(fact.sandbox_id);
        pool.gone(fact.sandbox_id);
      }
    }
  }

  #settle(sandboxId: string): void {
    settleIfGone(this.#core, sandboxId).catch((err: unknown) => {
      this.#lookDue = true;
      this.#core.logger.warn(
        { err, sandbox_id: sandboxId },
        "the end of a sandbox could not be settled; it is tried again",
      );
    });
  }

  async #sweep(pool: PoolKeeper, signal: AbortSignal): Promise<void> {
    const { sweepMs, pruneMs } = this.#timing;
    let nextPrune = 0;
    for (;;) {
      await pause(sweepMs, signal);
      if (signal.aborted) return;
      try {
        if (performance.now() >= nextPrune) {
          nextPrune = performance.now() + pruneMs;
          this.#lookDue = true;
          await this.#core.store.prune();
          await this.#tidy(signal);
        }
        const mine = this.#mine();
        // One look at the clocks for all of them.
        const now = { wallMs: Date.now(), boot: bootTime() };
        for (const record of mine) await this.#endOverdue(record, now, signal);
        if (mine.some((record) => isUnsettled(record, this.#core.store))) this.#lookDue = true;
      } catch (err) {
        if (!signal.aborted) this.#complain(err);
      }
      await this.#look(signal);
      void pool.tend();
    }
  }

  /** What is left over is in nobody's way: failing to remove it is no reason to complain. */
  async #tidy(signal: AbortSignal): Promise<void> {
    const { backend, logger } = this.#core;
    try {
      const removed = await backend.tidy(signal);
      if (removed > 0) logger.info({ removed }, "removed what older versions left on the engine");
    } catch (err) {
      if (!signal.aborted) logger.debug({ err }, "what older versions left on the engine could not be removed");
    }
  }

  /** What the guest should have ended by itself is ended through the engine, and what someone asked to end is ended at last. */
  async #endOverdue(record: SandboxRecord, now: Now, signal: AbortSignal): Promise<void> {
    const { backend, logger, store } = this.#core;
    const { overdueMs } = this.#timing;
    if (record.state === "creating") return;
    const overdue = (leaseLeftMs(record, now) ?? 0) < -overdueMs;
    // Either way: the wall clock may have been set back.
    const stuck = record.ending !== undefined && Math.abs(now.wallMs - Date.parse(record.ending.at)) > overdueMs;
    if (!overdue && !stuck) return;
    try {
      await store.write(
        (tx) => {
          const current = tx.sandbox(record.sandbox_id);
          if (current && !current.ending)
            tx.putSandbox({ ...current, ending: { reason: "ttl", at: new Date().toISOString() } });
        },
        { necessary: true },
      );
      await backend.kill(record.sandbox_id, signal);
      await settleIfGone(this.#core, record.sandbox_id);
      logger.warn({ sandbox_id: record.sandbox_id }, "ended an overdue sandbox through the engine");
    } catch (err) {
      if (!signal.aborted) this.#complain(err);
    }
  }

  #mine(): SandboxRecord[] {
    return this.#core.store.liveSandboxes().filter((record) => record.engine_id === this.#engine?.engine_id);
  }

  /** Says that engine or store fail, once until they work again. */
  #complain(err: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#core.logger[this.#complained ? "debug" : "warn"](
      { err },
      "the keeper cannot reach engine or store; it goes on trying",
    );
    this.#complained = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#endTerm();
    await within(this.#done, 1_000);
    await this.#pool?.close();
    if (this.#engine !== undefined) await within(this.#core.store.roles.release(this.#role), 1_000);
  }
}

/** Left half-way by a process that died, or by an engine that did not answer. */
const isUnsettled = (record: SandboxRecord, { processes }: Store): boolean =>
  record.growing_to_mb !== undefined || (record.state === "creating" && !inOtherHands(record, processes));
