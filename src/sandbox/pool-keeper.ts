import { hasCode } from "../errors.ts";
import { admit, type SandboxSpec, specHash } from "./admission.ts";
import type { EngineInfo } from "./backend.ts";
import { fitEngine } from "./confinement.ts";
import type { Core } from "./core.ts";
import { ImagePrograms } from "./image-programs.ts";
import { confirmClaim, discardLater, discardMember, memberKey, memberLeaseMs } from "./pool.ts";
import { fillMs, fillPool, type Plan } from "./pool-fill.ts";
import type { PoolMember, SandboxRecord } from "./store/types.ts";
import { deadline, pause, within } from "./wait.ts";

export const poolTiming = {
  /** After so long without a sandbox of the default spec, none is kept ready. */
  poolUnusedMs: 5 * 60_000,
  /** Between two extensions of a member's lease. */
  poolExtendMs: 30_000,
  /** Silence after a create before the pool is filled: who creates several at once must not wait for it. */
  poolCalmMs: 250,
  /** Pause after a filling that failed. */
  poolRetryMs: 30_000,
};
const closeMs = 3_000;
/** Within it a claim was followed up, or the sandbox has ended. */
const confirmedMs = 60_000;
/** Newest sandboxes a new keeper looks at for the last use of the pool. */
const lookedAt = 20;

/**
 * Keeps warm sandboxes ready, as part of the keeper's term: fills the pool one at a time when nobody is creating, extends the
 * members' short leases, drops what no longer fits, and empties it when nobody uses it.
 */
export class PoolKeeper {
  readonly #core: Core;
  readonly #engine: EngineInfo;
  readonly #timing: typeof poolTiming;
  readonly #signal: AbortSignal;
  readonly #programs: ImagePrograms;
  readonly #extended = new Map<string, number>();
  #lastUse: number | undefined;
  #notBefore = 0;
  #tending: Promise<void> | undefined;
  #again = false;

  constructor(core: Core, engine: EngineInfo, timing: typeof poolTiming, signal: AbortSignal) {
    this.#core = core;
    this.#engine = engine;
    this.#timing = timing;
    this.#signal = signal;
    this.#programs = new ImagePrograms(core);
    this.#lastUse = this.#useBefore();
  }

  /** Hears of sandboxes that came: the pool is for those who make such ones. */
  used(sandboxIds: readonly string[]): void {
    const hash = this.#defaultHash();
    if (!sandboxIds.some((id) => this.#core.store.sandbox(id)?.spec_hash === hash)) return;
    this.#lastUse = performance.now();
    // Not now: who made it waits for its answer, and may make another.
    void pause(this.#timing.poolCalmMs, this.#signal).then(() => this.tend());
  }

  /** The engine says that processes of this id ended, or that it is removed. */
  gone(sandboxId: string): void {
    if (this.#core.store.poolMember(sandboxId)?.ready) discardLater(this.#core, sandboxId);
  }

  /** Looks after the pool. Calls meanwhile make one more round. Never rejects. */
  tend(): Promise<void> {
    this.#again = true;
    this.#tending ??= (async () => {
      while (this.#again && !this.#signal.aborted) {
        this.#again = false;
        try {
          await this.#round();
        } catch (err) {
          if (!this.#signal.aborted) this.#core.logger.debug({ err }, "the pool cannot be looked after now");
        }
      }
    })().finally(() => {
      this.#tending = undefined;
    });
    return this.#tending;
  }

  /** At the end of the term: nothing stays warm when no other server is there to use it. */
  async close(): Promise<void> {
    const { store, logger } = this.#core;
    await within(this.#tending ?? Promise.resolve(), closeMs);
    if (store.processes.list().some(({ process_id: id }) => id !== store.processId && store.processes.alive(id)))
      return;
    const leftover = this.#members().map(({ sandbox_id }) => discardMember(this.#core, sandbox_id));
    for (const result of (await within(Promise.allSettled(leftover), closeMs)) ?? []) {
      if (result.status === "rejected") logger.debug({ err: result.reason }, "a warm sandbox ends by its lease");
    }
  }

  async #round(): Promise<void> {
    await this.#confirmOrphans();
    const members = this.#members();
    const plan = await this.#plan();
    if (members.length === 0 && !plan) return;
    let kept = 0;
    for (const member of members) {
      const wanted = plan && member.key === plan.key && kept < this.#size();
      if (wanted && (await this.#keep(member))) kept += 1;
      else if (!this.#inOtherHands(member)) discardLater(this.#core, member.sandbox_id);
    }
    if (plan && kept < this.#size() && performance.now() >= this.#notBefore) await this.#fill(plan);
  }

  #members(): PoolMember[] {
    return this.#core.store.pool().filter((member) => member.engine_id === this.#engine.engine_id);
  }

  #size(): number {
    return Math.min(this.#core.pool, this.#core.policy.maxima.sandboxes);
  }

  /** One that another live process is still making: a keeper before this one. It may have failed and not been able to say so. */
  #inOtherHands({ ready, creator, created_at }: PoolMember): boolean {
    const { store } = this.#core;
    const mayBeMade = Date.now() - Date.parse(created_at) < fillMs;
    return !ready && mayBeMade && creator !== store.processId && store.processes.alive(creator);
  }

  /** What members are to be like now; undefined when none are wanted. */
  async #plan(): Promise<Plan | undefined> {
    const { poolUnusedMs } = this.#timing;
    if (this.#size() === 0 || this.#lastUse === undefined) return undefined;
    if (performance.now() - this.#lastUse > poolUnusedMs) return undefined;
    const spec = this.#defaultSpec();
    if (!spec) return undefined;
    try {
      const image = await this.#core.backend.resolveImage(spec.image, { signal: this.#signal, local: true });
      return { spec, image, key: await memberKey(this.#core, spec, image, this.#signal) };
    } catch (error) {
      // Without its image there is nothing to keep warm; whoever creates next brings it.
      if (hasCode(error, "IMAGE_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  /** Extends a member's lease when that is due. False when it is of no more use. */
  async #keep(member: PoolMember): Promise<boolean> {
    const id = member.sandbox_id;
    if (!member.ready) return this.#inOtherHands(member);
    const now = performance.now();
    if (now - (this.#extended.get(id) ?? Number.NEGATIVE_INFINITY) < this.#timing.poolExtendMs) return true;
    try {
      const guest = await this.#core.connections.guest(id, deadline(5_000, this.#signal));
      await guest.setLease({ boot_ms: memberLeaseMs }, deadline(5_000, this.#signal));
      this.#extended.set(id, now);
      return true;
    } catch (error) {
      if (this.#signal.aborted) return true;
      // Being claimed: a sandbox at once, or dead soon.
      return hasCode(error, "CONFLICT");
    }
  }

  async #fill(plan: Plan): Promise<void> {
    const { logger } = this.#core;
    for (let calmIn = this.#calmIn(); calmIn > 0 && !this.#signal.aborted; calmIn = this.#calmIn())
      await pause(calmIn, this.#signal);
    if (this.#again || this.#signal.aborted) return;
    try {
      const id = await fillPool(this.#core, this.#engine, plan, this.#programs, this.#signal);
      if (id === undefined) return;
      logger.debug({ sandbox_id: id }, "a warm sandbox is ready");
      this.#extended.set(id, performance.now());
      this.#again = true;
    } catch (err) {
      this.#notBefore = performance.now() + this.#timing.poolRetryMs;
      if (!this.#signal.aborted)
        logger.warn({ err }, "no sandbox could be made ready ahead of its use; tried again later");
    }
  }

  #calmIn(): number {
    return (this.#lastUse ?? 0) + this.#timing.poolCalmMs - performance.now();
  }

  /** A claimant that died between its transaction and its last step left a sandbox with a short lease. */
  async #confirmOrphans(): Promise<void> {
    const { store, logger } = this.#core;
    const young = (record: SandboxRecord) =>
      record.claim !== undefined && Date.now() - Date.parse(record.ready_at ?? record.created_at) < confirmedMs;
    for (const record of store.liveSandboxes()) {
      if (record.engine_id !== this.#engine.engine_id || !young(record) || store.processes.alive(record.creator))
        continue;
      await confirmClaim(this.#core, record, deadline(5_000, this.#signal)).catch((err: unknown) =>
        logger.debug({ err, sandbox_id: record.sandbox_id }, "a claim could not be followed up"),
      );
    }
  }

  /** When the pool would have been of use last, before this term. */
  #useBefore(): number | undefined {
    const { store, tenant } = this.#core;
    const hash = this.#defaultHash();
    let seen = 0;
    for (const { spec_hash, created_at } of store.sandboxes({ tenant, includeEnded: true })) {
      if (spec_hash === hash) return performance.now() - Math.max(0, Date.now() - Date.parse(created_at));
      if (++seen === lookedAt) return undefined;
    }
    return undefined;
  }

  #defaultHash(): string | undefined {
    const spec = this.#defaultSpec();
    return spec && specHash(spec);
  }

  /** What a create without arguments means; undefined where policy or engine refuse that. */
  #defaultSpec(): SandboxSpec | undefined {
    try {
      return fitEngine(admit({}, this.#core.policy, this.#core.defaultImage), this.#engine);
    } catch {
      return undefined;
    }
  }
}
