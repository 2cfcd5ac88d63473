import { SandboxError } from "../errors.ts";
import { admit, checkCapacity, PolicyDenied, pickUid, requestHash, type SandboxSpec, specHash } from "./admission.ts";
import type { Call, CreateRequest } from "./api.ts";
import type { ImageInfo } from "./backend.ts";
import { markReady, newRecord, recordIntent } from "./birth.ts";
import { recordDenial } from "./caller.ts";
import { engineSpec, fitEngine } from "./confinement.ts";
import type { Core } from "./core.ts";
import type { Guest } from "./guest/types.ts";
import { newSandboxId } from "./ids.ts";
import { isTerminal, requireUnending } from "./lifecycle.ts";
import { failSandbox, settleDeath } from "./settle.ts";
import type { SandboxRecord } from "./store/types.ts";
import { deadline, within } from "./wait.ts";

const bootLeaseMs = 60_000;
const programsMs = 4_000;
/** Newest sandboxes looked at for one that knows an image's programs already. */
const programsLookedAt = 200;
const stopMs = 5_000;

interface Work {
  done: Promise<void>;
  stop: AbortController;
}

/** Creates sandboxes: intent first, then the engine, then the guest. The work goes on when the one who asked stops waiting. */
export class Creator {
  readonly #core: Core;
  readonly #works = new Map<string, Work>();
  readonly #programs = new Map<string, Record<string, string>>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Journals the intent (or finds the sandbox of the same request) and starts the work. Resolves with the id at once. */
  async begin(request: CreateRequest, call: Call): Promise<string> {
    const core = this.#core;
    const admitted = await this.#admitted(request, call);
    const engine = await core.backend.engine(call.signal);
    const hash = requestHash(admitted, request, core.store.installId);
    const spec = fitEngine(admitted, engine);
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
      const uid = pickUid(new Set(live.map((record) => record.uid)), core.policy.users);
      const runtime = spec.runtime ?? engine.runtimes[0] ?? "default";
      recordIntent(
        tx,
        newRecord(core, spec, request, call, { sandboxId, engineId: engine.engine_id, uid, hash, runtime }),
        call,
      );
      return undefined;
    });
    if (found) return found;

    const stop = new AbortController();
    const done = this.#build(sandboxId, spec, request.env ?? {}, stop.signal, call.progress).finally(() =>
      this.#works.delete(sandboxId),
    );
    this.#works.set(sandboxId, { done, stop });
    // Failures are in the record; whoever waits reads them there.
    done.catch(() => {});
    return sandboxId;
  }

  /** The work on a sandbox this process is creating. */
  work(sandboxId: string): Promise<void> | undefined {
    return this.#works.get(sandboxId)?.done;
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

  async #build(
    sandboxId: string,
    spec: SandboxSpec,
    env: Record<string, string>,
    stop: AbortSignal,
    progress: ((message: string) => void) | undefined,
  ): Promise<void> {
    const { store, backend, logger } = this.#core;
    const started = performance.now();
    let stage = "image";
    try {
      const image = await backend.resolveImage(spec.image, { signal: stop, ...(progress && { onProgress: progress }) });
      stage = "create";
      const { uid } = await this.#keepImage(sandboxId, image);
      const { image_id } = image;
      const own = { sandbox_id: sandboxId, image_id, uid, boot_lease_ms: bootLeaseMs, spec_hash: specHash(spec) };
      await backend.create(engineSpec(spec, own), stop);
      stage = "guest";
      const full = { set: env, unset: [], image: { ...spec.env, ...image.env } };
      await this.#claim(sandboxId, full, Math.round(performance.now() - started), stop);
      logger.info(
        { sandbox_id: sandboxId, image: image.image, ms: Math.round(performance.now() - started) },
        "sandbox ready",
      );
    } catch (error) {
      const destroyed = stop.aborted || store.sandbox(sandboxId)?.ending !== undefined;
      const failure = destroyed ? destroyedMeanwhile(sandboxId, error) : SandboxError.from(error);
      logger.warn({ sandbox_id: sandboxId, stage, code: failure.code, err: error }, "sandbox could not be created");
      await this.#fail(sandboxId, stage, failure);
      throw failure;
    }
  }

  /** What a successor needs to know, should this process die; and the last look at whether anyone still wants it. */
  #keepImage(sandboxId: string, { image, image_id, image_digest }: ImageInfo): Promise<SandboxRecord> {
    return this.#core.store.write((tx) => {
      const record = tx.sandbox(sandboxId);
      if (!record) throw new SandboxError("INTERNAL", `No record of ${sandboxId}.`);
      requireUnending(record);
      const known = { ...record, image, image_id, ...(image_digest && { image_digest }) };
      tx.putSandbox(known);
      return known;
    });
  }

  /** Connects, hands over env and lease (which claims the sandbox) and tells that it is ready. */
  async #claim(
    sandboxId: string,
    env: Parameters<Guest["patchEnv"]>[0],
    durationMs: number,
    stop: AbortSignal,
  ): Promise<void> {
    const { store, connections } = this.#core;
    const record = store.sandbox(sandboxId);
    if (!record) throw new SandboxError("INTERNAL", `No record of ${sandboxId}.`);
    const signal = deadline(20_000, stop);
    const guest = await connections.guest(sandboxId, signal);
    // Env before lease: a claimed sandbox is a complete one, which is what a successor relies on.
    const [health] = await Promise.all([guest.health(signal), guest.patchEnv(env, signal)]);
    await guest.setLease({ ttl_ms: record.ttl_s * 1000, idle_ms: record.idle_s * 1000 }, signal);
    const programs = this.#knownPrograms(record);
    await store.write((tx) => {
      const current = tx.sandbox(sandboxId);
      if (!current) return;
      // Destroyed meanwhile, or told dead by another process: then there is nothing to hand out.
      requireUnending(current);
      if (current.state !== "creating") return;
      markReady(tx, { ...current, shell: health.shell, ...(programs && { programs }) }, durationMs);
    });
    if (!programs) await this.#askPrograms(record, guest);
  }

  /** Programs of an image are looked up once: they cannot change, the root is read-only. */
  #knownPrograms(record: SandboxRecord): Record<string, string> | undefined {
    const { store, tenant } = this.#core;
    const key = imageKey(record);
    const known = this.#programs.get(key);
    if (known) return known;
    let seen = 0;
    for (const other of store.sandboxes({ tenant, includeEnded: true })) {
      if (++seen > programsLookedAt) break;
      if (other.programs && other.image_id === record.image_id) {
        this.#programs.set(key, other.programs);
        return other.programs;
      }
    }
    return undefined;
  }

  /** The first sandbox of an image is ready before it is known what is in it; its creator waits for that a little. */
  async #askPrograms(record: SandboxRecord, guest: Guest): Promise<void> {
    const programs = await within(
      guest.programs().catch(() => undefined),
      programsMs,
    );
    if (!programs) return;
    this.#programs.set(imageKey(record), programs);
    await this.#core.store.write((tx) => {
      const current = tx.sandbox(record.sandbox_id);
      if (current) tx.putSandbox({ ...current, programs });
    });
  }

  async #fail(sandboxId: string, stage: string, error: SandboxError): Promise<void> {
    const { store, backend, connections, logger } = this.#core;
    await connections.drop(sandboxId);
    await store
      .write((tx) => {
        const record = tx.sandbox(sandboxId);
        // One whose end was asked for is told as destroyed, below.
        if (record?.state === "creating" && !record.ending) failSandbox(tx, record, stage, error);
      })
      .catch((err: unknown) => logger.error({ err, sandbox_id: sandboxId }, "could not journal a failed create"));
    try {
      await backend.remove(sandboxId, deadline(15_000));
      if (store.sandbox(sandboxId)?.ending) await settleDeath(this.#core, sandboxId, undefined);
    } catch (err) {
      // The keeper removes what an engine that does not answer keeps for now.
      logger.debug({ err, sandbox_id: sandboxId }, "what was being created could not be removed yet");
    }
  }
}

const imageKey = (record: SandboxRecord): string => record.image_id ?? record.image;

const destroyedMeanwhile = (sandboxId: string, cause: unknown): SandboxError =>
  new SandboxError("SANDBOX_ENDED", `Sandbox ${sandboxId} was destroyed while it was being created.`, { cause });
