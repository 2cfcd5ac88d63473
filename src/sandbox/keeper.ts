import { settleIfGone } from "./access.ts";
import type { Core } from "./core.ts";
import { ingest } from "./ingest.ts";
import { isTerminal } from "./lifecycle.ts";
import type { StatsReader } from "./observe.ts";
import { reconcile } from "./reconcile.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { StatsView } from "./views.ts";
import { deadline, pause, within } from "./wait.ts";

const renewMs = 2_000;
const staleMs = 8_000;
const sweepMs = 5_000;
const pruneMs = 10 * 60_000;
const sampleMs = 10_000;
const overdueMs = 5_000;
const factsWaitMs = 25_000;

export interface KeeperOptions {
  /** Where samples go; they are not journaled. */
  onStats?: (record: SandboxRecord, stats: StatsView) => void;
}

/**
 * The one process per install and engine that reads every guest's facts, watches the engine, samples, sweeps and prunes.
 * Every server process runs a candidate; the store elects.
 */
export class Keeper implements AsyncDisposable {
  readonly #core: Core;
  readonly #stats: StatsReader;
  readonly #options: KeeperOptions;
  readonly #stop = new AbortController();
  readonly #followers = new Map<string, AbortController>();
  #term: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();
  #firstPass: Promise<void> = Promise.resolve();
  #role = "";

  constructor(core: Core, stats: StatsReader, options: KeeperOptions = {}) {
    this.#core = core;
    this.#stats = stats;
    this.#options = options;
  }

  /** Becomes a candidate. Resolves after the first look at engine and store, when this process was elected, within a bound. */
  async start(waitMs: number): Promise<void> {
    let looked: () => void = () => {};
    this.#firstPass = new Promise((resolve) => {
      looked = resolve;
    });
    this.#done = this.#candidate(looked);
    await within(this.#firstPass, waitMs);
  }

  async #candidate(looked: () => void): Promise<void> {
    const { store, backend, logger } = this.#core;
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      try {
        this.#role = `keeper:${(await backend.engine(signal)).engine_id}`;
        const elected = await store.roles.hold(this.#role, staleMs);
        if (elected && !this.#term) this.#begin(looked);
        if (!elected) {
          this.#endTerm();
          looked();
        }
      } catch (err) {
        looked();
        if (!signal.aborted) logger.warn({ err }, "the keeper cannot reach engine or store; it goes on trying");
      }
      await pause(renewMs, signal);
    }
  }

  #begin(looked: () => void): void {
    const term = new AbortController();
    this.#term = term;
    this.#core.logger.debug({ role: this.#role }, "this process keeps the sandboxes");
    const guard = (name: string, work: Promise<void>) =>
      work.catch((err: unknown) => {
        if (!term.signal.aborted) this.#core.logger.error({ err }, `keeper: ${name} failed`);
      });
    const unsubscribe = this.#core.store.journal.onAppend(() => this.#follow(term.signal));
    term.signal.addEventListener("abort", unsubscribe, { once: true });
    void guard("first look", this.#look(term.signal)).finally(looked);
    void guard("watch", this.#watch(term.signal));
    void guard("sweep", this.#sweep(term.signal));
    void guard("sampling", this.#sample(term.signal));
  }

  #endTerm(): void {
    this.#term?.abort();
    this.#term = undefined;
    for (const follower of this.#followers.values()) follower.abort();
    this.#followers.clear();
  }

  async #look(signal: AbortSignal): Promise<void> {
    await reconcile(this.#core, signal);
    this.#follow(signal);
  }

  async #watch(signal: AbortSignal): Promise<void> {
    for await (const fact of this.#core.backend.watch(signal)) {
      if (fact.kind === "reconnected")
        await this.#look(signal).catch((err: unknown) => this.#core.logger.warn({ err }, "reconcile failed"));
      else if (fact.kind === "died" || fact.kind === "removed") this.#settle(fact.sandbox_id);
    }
  }

  #settle(sandboxId: string): void {
    settleIfGone(this.#core, sandboxId).catch((err: unknown) =>
      this.#core.logger.warn(
        { err, sandbox_id: sandboxId },
        "the end of a sandbox could not be settled; it is tried again",
      ),
    );
  }

  /** One reader of facts for each live sandbox. */
  #follow(signal: AbortSignal): void {
    if (signal.aborted) return;
    const live = new Map(this.#mine().map((record) => [record.sandbox_id, record]));
    for (const [id, follower] of this.#followers) {
      if (!live.has(id)) {
        follower.abort();
        this.#followers.delete(id);
      }
    }
    for (const [id, record] of live) {
      if (record.state === "creating" || this.#followers.has(id)) continue;
      const follower = new AbortController();
      this.#followers.set(id, follower);
      void this.#readFacts(id, AbortSignal.any([signal, follower.signal]));
    }
  }

  async #readFacts(sandboxId: string, signal: AbortSignal): Promise<void> {
    const { store, connections, logger } = this.#core;
    let failures = 0;
    while (!signal.aborted) {
      const record = store.sandbox(sandboxId);
      if (!record || isTerminal(record.state)) return;
      try {
        const guest = await connections.guest(sandboxId, signal);
        const facts = await guest.facts(record.fact_cursor, factsWaitMs, signal);
        await ingest(this.#core, sandboxId, facts, guest);
        failures = 0;
      } catch (err) {
        if (signal.aborted) return;
        const gone = await settleIfGone(this.#core, sandboxId).catch(() => false);
        if (gone) return;
        if (failures++ === 3)
          logger.warn({ err, sandbox_id: sandboxId }, "a guest does not answer; its lease and the engine still end it");
        await pause(Math.min(30_000, 100 * 2 ** failures), signal);
      }
    }
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    let nextPrune = performance.now() + pruneMs;
    while (!signal.aborted) {
      await pause(sweepMs, signal);
      if (signal.aborted) return;
      try {
        await this.#endOverdue(signal);
        if (performance.now() >= nextPrune) {
          nextPrune = performance.now() + pruneMs;
          await this.#core.store.prune();
          await reconcile(this.#core, signal);
        }
      } catch (err) {
        if (!signal.aborted) this.#core.logger.warn({ err }, "sweep failed; it is tried again");
      }
    }
  }

  /** What the guest should have ended by itself is ended through the engine, and what someone asked to end is ended at last. */
  async #endOverdue(signal: AbortSignal): Promise<void> {
    const { backend, logger, store } = this.#core;
    for (const record of this.#mine()) {
      if (record.state === "creating") {
        if (!store.processes.alive(record.creator)) await reconcile(this.#core, signal);
        continue;
      }
      const overdue = record.expires_at !== undefined && Date.now() > Date.parse(record.expires_at) + overdueMs;
      const stuck = record.ending !== undefined && Date.now() > Date.parse(record.ending.at) + overdueMs;
      if (!overdue && !stuck) continue;
      // The wall clock may have jumped: a guest that answers knows better what is left of its lease.
      if (overdue && !stuck && (await this.#leaseRemains(record.sandbox_id, signal))) continue;
      logger.warn({ sandbox_id: record.sandbox_id }, "ending an overdue sandbox through the engine");
      await store.write((tx) => {
        const current = tx.sandbox(record.sandbox_id);
        if (current && !current.ending)
          tx.putSandbox({ ...current, ending: { reason: "ttl", at: new Date().toISOString() } });
      });
      await backend.kill(record.sandbox_id, signal);
      await settleIfGone(this.#core, record.sandbox_id);
    }
  }

  async #leaseRemains(sandboxId: string, signal: AbortSignal): Promise<boolean> {
    const guest = this.#core.connections.peek(sandboxId);
    const health = await guest?.health(deadline(1_000, signal)).catch(() => undefined);
    const remaining = health?.lease.ttl_remaining_ms ?? 0;
    if (remaining <= 0) return false;
    await this.#core.store.write((tx) => {
      const record = tx.sandbox(sandboxId);
      // A guest cannot lengthen its own life: no more is believed than was ever granted.
      const granted = Math.min(remaining, (record?.ttl_s ?? 0) * 1000);
      if (record) tx.putSandbox({ ...record, expires_at: new Date(Date.now() + granted).toISOString() });
    });
    return true;
  }

  async #sample(signal: AbortSignal): Promise<void> {
    const { onStats } = this.#options;
    if (!onStats) return;
    while (!signal.aborted) {
      await pause(sampleMs, signal);
      const running = this.#mine().filter((record) => record.state !== "creating");
      await Promise.allSettled(
        running.map(async (record) => {
          onStats(record, await this.#stats.sample(record.sandbox_id, deadline(5_000, signal)));
        }),
      );
    }
  }

  #mine(): SandboxRecord[] {
    const engineId = this.#role.slice("keeper:".length);
    return this.#core.store.liveSandboxes().filter((record) => record.engine_id === engineId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#endTerm();
    await within(this.#done, 1_000);
    if (this.#role) await within(this.#core.store.roles.release(this.#role), 1_000);
  }
}
