import { hasCode, SandboxError } from "../errors.ts";
import { settleIfGone } from "./access.ts";
import type { Core } from "./core.ts";
import { gatheringMs } from "./file-changes.ts";
import type { Guest, GuestFacts } from "./guest/types.ts";
import { ingest } from "./ingest.ts";
import { isTerminal } from "./lifecycle.ts";
import { partWith } from "./settle.ts";
import type { SandboxRecord } from "./store/types.ts";
import { pause } from "./wait.ts";

export interface ReaderTiming {
  /** How long a guest holds a question for facts open. */
  factsWaitMs: number;
  /** Facts are left this long to the call that waits for their exec: it takes them along with its answer, in its own commit. */
  lingerMs: number;
}

/** Facts of changed files that are held back before they are told. */
const mostGathered = 256;

/** One reader for each sandbox followed: journals what its guest tells and nobody else has read. */
export class FactReaders {
  readonly #core: Core;
  readonly #timing: ReaderTiming;
  readonly #readers = new Map<string, AbortController>();

  constructor(core: Core, timing: ReaderTiming) {
    this.#core = core;
    this.#timing = timing;
  }

  /** Reads from these sandboxes from now on, as soon as they are ready, and from no others. */
  follow(live: SandboxRecord[]): void {
    const ids = new Set(live.map((record) => record.sandbox_id));
    for (const [id, reader] of this.#readers) {
      if (ids.has(id)) continue;
      reader.abort();
      this.#readers.delete(id);
      const { store } = this.#core;
      // Whoever told its end may not have been the one who talks to it.
      if (isTerminal(store.sandbox(id)?.state ?? "running")) partWith(this.#core, id).catch(() => {});
    }
    for (const { sandbox_id: id, state } of live) {
      if (state === "creating" || this.#readers.has(id)) continue;
      const reader = new AbortController();
      this.#readers.set(id, reader);
      void this.#read(id, reader.signal);
    }
  }

  async #read(sandboxId: string, signal: AbortSignal): Promise<void> {
    const { store, logger } = this.#core;
    let failures = 0;
    while (!signal.aborted) {
      try {
        const record = store.sandbox(sandboxId);
        if (!record || isTerminal(record.state)) return;
        await this.#readOnce(record, signal);
        failures = 0;
      } catch (err) {
        if (signal.aborted) return;
        const gone = await settleIfGone(this.#core, sandboxId).catch(() => false);
        if (gone) return;
        const full = hasCode(err, "LIMIT_EXCEEDED");
        if (failures++ === 3)
          logger.warn(
            { err, sandbox_id: sandboxId },
            full
              ? "what a guest tells cannot be journaled yet; it keeps it, and the keeper goes on trying"
              : "a guest does not answer; its lease and the engine still end it",
          );
        await pause(Math.min(full ? 1_000 : 30_000, 100 * 2 ** failures), signal);
      }
    }
  }

  async #readOnce({ sandbox_id, fact_cursor }: SandboxRecord, signal: AbortSignal): Promise<void> {
    const { factsWaitMs, lingerMs } = this.#timing;
    const guest = await this.#core.connections.guest(sandbox_id, signal);
    const asked = performance.now();
    const facts = await guest.facts(fact_cursor, factsWaitMs, signal);
    // A guest that keeps asking to be asked again must not keep the keeper busy.
    if (facts.facts.length === 0 && performance.now() - asked < factsWaitMs / 2) {
      throw new SandboxError("GUEST_UNAVAILABLE", "The guest answers before it has facts or the wait is over.");
    }
    await pause(lingerMs, signal);
    const gathered = await this.#gathered(sandbox_id, facts, guest, signal);
    await ingest(this.#core, sandbox_id, gathered, guest, { gather: gathered.facts.length < mostGathered });
  }

  /** Changed files are told once a second, those of a second together, unless the guest tells of something else. */
  async #gathered(sandboxId: string, first: GuestFacts, guest: Guest, signal: AbortSignal): Promise<GuestFacts> {
    const until = performance.now() + gatheringMs(this.#core.store.sandbox(sandboxId) ?? {});
    let all = first;
    for (;;) {
      const left = Math.ceil(until - performance.now());
      const newest = all.facts.at(-1);
      if (left <= 0 || !newest || all.facts.length >= mostGathered || all.facts.some(({ kind }) => kind !== "files")) {
        return all;
      }
      const { facts, oldest, next } = await guest.facts(newest.seq, left, signal);
      // Some are gone by now: what was read is told first, and then looked into.
      if (oldest > newest.seq + 1) return all;
      all = { ...all, facts: [...all.facts, ...facts], next };
      await pause(this.#timing.lingerMs, signal);
    }
  }
}
