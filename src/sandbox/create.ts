import { SandboxError } from "../errors.ts";
import { admit, checkCapacity, PolicyDenied, pickUid, requestHash, type SandboxSpec, specHash } from "./admission.ts";
import type { Call, CreateRequest } from "./api.ts";
import type { Core } from "./core.ts";
import type { Actor } from "./events.ts";
import type { Guest } from "./guest/types.ts";
import { newSandboxId } from "./ids.ts";
import { isTerminal, requireLive } from "./lifecycle.ts";
import { failSandbox, settleDeath } from "./settle.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";
import { deadline, within } from "./wait.ts";

const bootLeaseMs = 60_000;
const programsMs = 4_000;

/** Creates sandboxes: intent first, then the engine, then the guest. The work goes on when the one who asked stops waiting. */
export class Creator {
  readonly #core: Core;
  readonly #works = new Map<string, Promise<void>>();
  readonly #programs = new Map<string, Record<string, string>>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Journals the intent (or finds the sandbox of the same request) and starts the work. Resolves with the id at once. */
  async begin(request: CreateRequest, call: Call): Promise<string> {
    const core = this.#core;
    const spec = await this.#admitted(request, call);
    const engine = await core.backend.engine(call.signal);
    const hash = requestHash(spec, request, core.store.installId);
    const sandboxId = newSandboxId();

    const found = await core.store.write((tx) => {
      const earlier = request.request_id ? tx.sandboxByRequest(core.tenant, request.request_id) : undefined;
      // A failed or ended sandbox does not stand in the way of trying again.
      if (earlier && !isTerminal(earlier.state)) {
        if (earlier.request_hash === hash) return earlier.sandbox_id;
        throw new SandboxError(
          "CONFLICT",
          `request_id ${JSON.stringify(request.request_id)} already stands for ${earlier.sandbox_id} with another spec.`,
          { next: "Use a new request_id for a different sandbox." },
        );
      }
      if (request.name && tx.sandboxByName(core.tenant, request.name)) {
        throw new SandboxError("CONFLICT", `A live sandbox is already named ${JSON.stringify(request.name)}.`, {
          next: "Use it by that name, or choose another name.",
        });
      }
      const live = tx.liveSandboxes().filter((record) => record.engine_id === engine.engine_id);
      checkCapacity(spec.resources, live, core.policy, engine.memory_bytes);
      const uid = pickUid(new Set(live.map((record) => record.uid)));
      const runtime = engine.runtimes[0] ?? "default";
      recordIntent(
        tx,
        newRecord(core, spec, request, call, { sandboxId, engineId: engine.engine_id, uid, hash, runtime }),
        call,
      );
      return undefined;
    });
    if (found) return found;

    const work = this.#build(sandboxId, spec, request.env ?? {}, call.progress).finally(() =>
      this.#works.delete(sandboxId),
    );
    this.#works.set(sandboxId, work);
    // Failures are in the record; whoever waits reads them there.
    work.catch(() => {});
    return sandboxId;
  }

  /** The work on a sandbox this process is creating. */
  work(sandboxId: string): Promise<void> | undefined {
    return this.#works.get(sandboxId);
  }

  /** Lets what is under way come to an end, within a bound, so that a closing server leaves few intents behind. */
  async settled(ms: number): Promise<void> {
    await within(Promise.allSettled(this.#works.values()), ms);
  }

  async #admitted(request: CreateRequest, call: Call): Promise<SandboxSpec> {
    try {
      return admit(request, this.#core.policy, this.#core.defaultImage);
    } catch (error) {
      if (error instanceof PolicyDenied) await recordDenial(this.#core, error, call);
      throw error;
    }
  }

  async #build(
    sandboxId: string,
    spec: SandboxSpec,
    env: Record<string, string>,
    progress: ((message: string) => void) | undefined,
  ): Promise<void> {
    const { store, backend, logger } = this.#core;
    const started = performance.now();
    let stage = "image";
    try {
      const image = await backend.resolveImage(spec.image, progress ? { onProgress: progress } : {});
      stage = "create";
      // Destroyed while the image came: nothing to build any more.
      if (store.sandbox(sandboxId)?.ending) return await settleDeath(this.#core, sandboxId, undefined);
      await backend.create({
        sandbox_id: sandboxId,
        image_id: image.image_id,
        profile: spec.profile,
        resources: spec.resources,
        network: "none",
        uid: store.sandbox(sandboxId)?.uid ?? 0,
        boot_lease_ms: bootLeaseMs,
        spec_hash: specHash(spec),
      });
      stage = "guest";
      const digest = image.image_digest;
      const full = { set: env, unset: [], ...(image.env && { image: image.env }) };
      await this.#claim(sandboxId, full, Math.round(performance.now() - started), (record) => ({
        ...record,
        image: image.image,
        image_id: image.image_id,
        ...(digest && { image_digest: digest }),
      }));
      logger.info(
        { sandbox_id: sandboxId, image: image.image, ms: Math.round(performance.now() - started) },
        "sandbox ready",
      );
    } catch (error) {
      const failure = SandboxError.from(error);
      logger.warn({ sandbox_id: sandboxId, stage, code: failure.code, err: error }, "sandbox could not be created");
      await this.#fail(sandboxId, stage, failure);
      throw failure;
    }
  }

  /** Connects, hands over env and lease (which claims the sandbox) and tells that it is ready. */
  async #claim(
    sandboxId: string,
    env: Parameters<Guest["patchEnv"]>[0],
    durationMs: number,
    complete: (record: SandboxRecord) => SandboxRecord,
  ): Promise<void> {
    const { store, connections } = this.#core;
    const record = store.sandbox(sandboxId);
    if (!record) throw new SandboxError("INTERNAL", `No record of ${sandboxId}.`);
    const signal = deadline(20_000);
    const guest = await connections.guest(sandboxId, signal);
    // Env before lease: a claimed sandbox is a complete one, which is what a successor relies on.
    await guest.patchEnv(env, signal);
    const [health] = await Promise.all([
      guest.health(signal),
      guest.setLease({ ttl_ms: record.ttl_s * 1000, idle_ms: record.idle_s * 1000 }, signal),
    ]);
    const completed = complete(record);
    const programs = await this.#programsOf(completed, sandboxId);
    await store.write((tx) => {
      const current = tx.sandbox(sandboxId);
      if (!current || current.state !== "creating") return;
      markReady(
        tx,
        { ...current, ...pickImage(completed), shell: health.shell, ...(programs && { programs }) },
        durationMs,
      );
    });
    // Destroyed meanwhile, or told dead by another process: then there is nothing to hand out.
    const now = store.sandbox(sandboxId);
    if (now) requireLive(now);
  }

  /** Programs of an image are looked up once: they cannot change, the root is read-only. */
  async #programsOf(record: SandboxRecord, sandboxId: string): Promise<Record<string, string> | undefined> {
    const { store, connections, tenant } = this.#core;
    const key = record.image_id ?? record.image;
    const known = this.#programs.get(key);
    if (known) return known;
    for (const other of store.sandboxes({ tenant, includeEnded: true })) {
      if (other.programs && other.image_id === record.image_id) {
        this.#programs.set(key, other.programs);
        return other.programs;
      }
    }
    const guest = connections.peek(sandboxId);
    const found = await within(guest?.programs().catch(() => undefined) ?? Promise.resolve(undefined), programsMs);
    if (found) this.#programs.set(key, found);
    return found;
  }

  async #fail(sandboxId: string, stage: string, error: SandboxError): Promise<void> {
    const { store, backend, connections, logger } = this.#core;
    await connections.drop(sandboxId);
    await store
      .write((tx) => {
        const record = tx.sandbox(sandboxId);
        if (record?.state === "creating") failSandbox(tx, record, stage, error);
      })
      .catch((err: unknown) => logger.error({ err, sandbox_id: sandboxId }, "could not journal a failed create"));
    // Best effort: reconcile removes what an engine that does not answer keeps for now.
    await backend.remove(sandboxId, deadline(15_000)).catch(() => {});
  }
}

/** The transition to running, with its event. */
export function markReady(tx: Tx, record: SandboxRecord, durationMs: number): void {
  const now = new Date();
  tx.putSandbox({
    ...record,
    state: "running",
    ready_at: now.toISOString(),
    last_used_at: now.toISOString(),
    expires_at: new Date(now.getTime() + record.ttl_s * 1000).toISOString(),
  });
  tx.emit(record.sandbox_id, {
    type: "lifecycle.ready",
    data: { duration_ms: durationMs, ...(record.image_digest && { image_digest: record.image_digest }) },
    actor: { kind: "system" },
    ...(record.request_id && { request_id: record.request_id }),
  });
}

/** Tells of a refusal by the policy; it belongs to no sandbox, so the host's own subject carries it. */
export async function recordDenial(core: Core, denied: PolicyDenied, call: Call, sandboxId = "_host"): Promise<void> {
  const { what, requested, allowed, rule } = denied;
  await core.store.write((tx) => {
    tx.emit(sandboxId, {
      type: "policy.denied",
      data: { what, requested, allowed, rule },
      actor: agent(call),
      ...trace(call),
    });
  });
}

export const agent = (call: Call): Actor => ({ kind: "agent", client: call.client });
export const trace = (call: Call): { traceparent?: string } =>
  call.traceparent ? { traceparent: call.traceparent } : {};

function pickImage(record: SandboxRecord): Pick<SandboxRecord, "image" | "image_id" | "image_digest"> {
  const { image, image_id, image_digest } = record;
  return { image, ...(image_id && { image_id }), ...(image_digest && { image_digest }) };
}

function newRecord(
  core: Core,
  spec: SandboxSpec,
  request: CreateRequest,
  call: Call,
  ids: { sandboxId: string; engineId: string; uid: number; hash: string; runtime: string },
): SandboxRecord {
  const now = new Date().toISOString();
  return {
    sandbox_id: ids.sandboxId,
    ...(request.name && { name: request.name }),
    tenant: core.tenant,
    engine_id: ids.engineId,
    state: "creating",
    backend: core.backend.name,
    runtime: ids.runtime,
    image: spec.image,
    profile: spec.profile,
    resources: spec.resources,
    network: spec.network,
    ttl_s: spec.ttl_s,
    idle_s: spec.idle_s,
    uid: ids.uid,
    spec_hash: specHash(spec),
    ...(request.request_id && { request_id: request.request_id, request_hash: ids.hash }),
    labels: request.labels ?? {},
    env_keys: Object.keys(request.env ?? {}).sort(),
    origin: { client: call.client, folder: call.folder },
    warm: false,
    creator: core.store.processId,
    created_at: now,
    last_used_at: now,
    fact_cursor: 0,
    sequence: 0,
    execs_total: 0,
  };
}

function recordIntent(tx: Tx, record: SandboxRecord, call: Call): void {
  tx.putSandbox(record);
  tx.emit(record.sandbox_id, {
    type: "lifecycle.created",
    data: {
      image: record.image,
      backend: record.backend,
      runtime: record.runtime,
      profile: record.profile,
      resources: record.resources,
      network: record.network,
      ttl_s: record.ttl_s,
      idle_s: record.idle_s,
      warm: record.warm,
      origin: record.origin,
    },
    actor: agent(call),
    ...trace(call),
    ...(record.request_id && { request_id: record.request_id }),
  });
}
