import { setImmediate } from "node:timers/promises";
import { SandboxError } from "../errors.ts";
import { admit, checkCapacity, PolicyDenied, pickUid, requestHash, type SandboxSpec } from "./admission.ts";
import type { Call, CreateRequest } from "./api.ts";
import type { EngineInfo } from "./backend.ts";
import { markReady, newRecord, recordIntent } from "./birth.ts";
import { Builder } from "./build.ts";
import { recordDenial } from "./caller.ts";
import { fitEngine } from "./confinement.ts";
import type { Core } from "./core.ts";
import type { GuestLease } from "./guest/types.ts";
import { newSandboxId } from "./ids.ts";
import { isTerminal } from "./lifecycle.ts";
import { claimWarm, confirmClaim, discardLater, givingWay, type Warm } from "./pool.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";
import { deadline, within } from "./wait.ts";

const stopMs = 5_000;
const confirmMs = 10_000;

/** One request, and what is to be made of it. */
interface Asked {
  spec: SandboxSpec;
  request: CreateRequest;
  call: Call;
  engine: EngineInfo;
  hash: string;
}

interface Work {
  /** Resolves once the sandbox may be used, with the lease it has then. */
  ready: Promise<GuestLease>;
  /** Settles once nothing is left to do. */
  done: Promise<unknown>;
  stop: AbortController;
}

/** Creates sandboxes: intent first, then the engine, then the guest. The work goes on when the one who asked stops waiting. */
export class Creator {
  readonly #core: Core;
  readonly #works = new Map<string, Work>();
  readonly #builder: Builder;

  constructor(core: Core) {
    this.#core = core;
    this.#builder = new Builder(core);
  }

  /** Journals the intent (or finds the sandbox of the same request) and starts the work. Resolves with the id at once. */
  async begin(request: CreateRequest, call: Call): Promise<string> {
    const core = this.#core;
    const begun = performance.now();
    const admitted = await this.#admitted(request, call);
    // No warm sandbox is spent on what cannot be noted.
    core.store.requireRoom();
    const engine = await core.backend.engine(call.signal);
    const hash = requestHash(admitted, request, core.store.installId);
    const spec = fitEngine(admitted, engine);
    const asked: Asked = { spec, request, call, engine, hash };
    const warm = this.#repeats(request)
      ? undefined
      : await claimWarm(core, engine, spec, request.env ?? {}, call.signal);
    return (warm && (await this.#take(asked, warm, begun))) ?? this.#beginCold(asked);
  }

  /** Whether an earlier call may have made it already: then the transaction tells, and no warm sandbox is spent on finding out. */
  #repeats({ request_id, name }: CreateRequest): boolean {
    const { store, tenant } = this.#core;
    return (
      (request_id !== undefined && store.sandboxByRequest(tenant, request_id) !== undefined) ||
      (name !== undefined && store.sandboxByName(tenant, name) !== undefined)
    );
  }

  async #beginCold(asked: Asked): Promise<string> {
    const core = this.#core;
    const { spec, request, call, engine, hash } = asked;
    const sandboxId = newSandboxId();
    const { found, evicted } = await core.store.write((tx) => {
      const earlier = this.#earlier(tx, asked);
      if (earlier !== undefined) return { found: earlier, evicted: [] };
      const live = liveOn(tx, engine);
      const members = tx.pool().filter((member) => member.engine_id === engine.engine_id);
      checkCapacity(spec.resources, live, core, engine.memory_bytes);
      const evicted = givingWay(spec.resources, live, members, core.policy, engine.memory_bytes);
      for (const member of evicted) tx.removePoolMember(member.sandbox_id);
      const uid = pickUid(new Set([...live, ...members].map((holder) => holder.uid)), core.policy.users);
      const ids = { sandboxId, engineId: engine.engine_id, uid, hash, runtime: runtimeOf(asked) };
      recordIntent(tx, newRecord(core, spec, request, call, ids), call);
      return { found: undefined, evicted };
    });
    for (const member of evicted) discardLater(core, member.sandbox_id);
    if (found !== undefined) return found;
    const stop = new AbortController();
    this.#follow(sandboxId, stop, this.#builder.build(sandboxId, spec, request.env ?? {}, stop.signal, call.progress));
    return sandboxId;
  }

  /** Makes a sandbox of a claimed member; undefined when it is no longer there to be had. */
  async #take(asked: Asked, { member, image, claim }: Warm, begun: number): Promise<string | undefined> {
    const core = this.#core;
    const { spec, request, call, engine, hash } = asked;
    const { sandbox_id: sandboxId, uid, shell, programs } = member;
    const taken = core.store.write((tx) => {
      const earlier = this.#earlier(tx, asked);
      if (earlier !== undefined) return earlier;
      if (!tx.poolMember(sandboxId)) return undefined;
      checkCapacity(spec.resources, liveOn(tx, engine), core, engine.memory_bytes);
      tx.removePoolMember(sandboxId);
      const ids = { sandboxId, engineId: engine.engine_id, uid, hash, runtime: runtimeOf(asked), warm: true };
      const record: SandboxRecord = {
        ...newRecord(core, spec, request, call, ids),
        ...{ image: image.image, image_id: image.image_id, claim },
        ...(image.image_digest && { image_digest: image.image_digest }),
        ...(shell && { shell }),
        ...(programs && { programs }),
      };
      recordIntent(tx, record, call);
      markReady(tx, record, Math.round(performance.now() - begun));
      return sandboxId;
    });
    const id = await taken.catch((error: unknown) => {
      discardLater(core, sandboxId);
      throw error;
    });
    const record = id === sandboxId ? core.store.sandbox(id) : undefined;
    if (record) {
      const stop = new AbortController();
      const lease = { claimed: true, ttl_remaining_ms: spec.ttl_s * 1000, idle_remaining_ms: spec.idle_s * 1000 };
      this.#follow(sandboxId, stop, Promise.resolve(lease), this.#confirm(record, stop.signal));
    } else discardLater(core, sandboxId);
    return id;
  }

  /** The last step of a claim, behind the answer: whoever asked need not wait for it, and the keeper does it for a process that died. */
  async #confirm(record: SandboxRecord, stop: AbortSignal): Promise<void> {
    await setImmediate();
    try {
      await confirmClaim(this.#core, record, deadline(confirmMs, stop));
    } catch (err) {
      const { sandbox_id } = record;
      if (!stop.aborted)
        this.#core.logger.warn({ err, sandbox_id }, "a warm sandbox did not take its lease and will end");
    }
  }

  /** The sandbox that a request has made before. Throws CONFLICT for the request and for the name. */
  #earlier(tx: Tx, { request, hash }: Asked): string | undefined {
    const { tenant } = this.#core;
    const earlier = request.request_id ? tx.sandboxByRequest(tenant, request.request_id) : undefined;
    // A failed or ended sandbox does not stand in the way of trying again.
    if (earlier && !isTerminal(earlier.state)) {
      if (earlier.request_hash === hash) return earlier.sandbox_id;
      throw new SandboxError(
        "CONFLICT",
        `request_id ${JSON.stringify(request.request_id)} already stands for ${earlier.sandbox_id} with another spec.`,
        { next: "Use a new request_id for a different sandbox." },
      );
    }
    if (request.name && tx.sandboxByName(tenant, request.name)) {
      throw new SandboxError("CONFLICT", `A live sandbox is already named ${JSON.stringify(request.name)}.`, {
        next: "Use it by that name, or choose another name.",
      });
    }
    return undefined;
  }

  #follow(sandboxId: string, stop: AbortController, ready: Promise<GuestLease>, rest: Promise<unknown> = ready): void {
    const done = rest.finally(() => this.#works.delete(sandboxId));
    this.#works.set(sandboxId, { ready, done, stop });
    // Failures are in the record; whoever waits reads them there.
    done.catch(() => {});
  }

  /** When a sandbox this process is creating may be used. */
  ready(sandboxId: string): Promise<GuestLease> | undefined {
    return this.#works.get(sandboxId)?.ready;
  }

  /** Resolves once this process has nothing more to do to a sandbox it creates, so that a later word of its lease stays the last. */
  async finished(sandboxId: string): Promise<void> {
    await this.#works.get(sandboxId)?.done.catch(() => {});
  }

  /** Gives up creating a sandbox; resolves once the work has let go of it, within a bound. */
  async stop(sandboxId: string): Promise<void> {
    const work = this.#works.get(sandboxId);
    if (!work) return;
    work.stop.abort();
    await within(Promise.allSettled([work.done]), stopMs);
  }

  /** Lets what is under way come to an end, within a bound, so that a closing server leaves few intents behind. */
  async settled(ms: number): Promise<void> {
    await within(Promise.allSettled([...this.#works.values()].map(({ done }) => done)), ms);
  }

  async #admitted(request: CreateRequest, call: Call): Promise<SandboxSpec> {
    try {
      return admit(request, this.#core.policy, this.#core.defaultImage);
    } catch (error) {
      if (error instanceof PolicyDenied) await recordDenial(this.#core, error, call);
      throw error;
    }
  }
}

const liveOn = (tx: Tx, engine: EngineInfo): SandboxRecord[] =>
  tx.liveSandboxes().filter((record) => record.engine_id === engine.engine_id);

const runtimeOf = ({ spec, engine }: Asked): string => spec.runtime ?? engine.runtimes[0] ?? "default";
