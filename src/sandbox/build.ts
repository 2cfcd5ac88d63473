import { SandboxError } from "../errors.ts";
import { type SandboxSpec, specHash } from "./admission.ts";
import type { ImageInfo } from "./backend.ts";
import { markReady } from "./birth.ts";
import { engineSpec } from "./confinement.ts";
import type { Core } from "./core.ts";
import type { Guest, GuestLease } from "./guest/types.ts";
import { ImagePrograms } from "./image-programs.ts";
import { requireUnending } from "./lifecycle.ts";
import { settleDeath, tellFailed } from "./settle.ts";
import type { SandboxRecord } from "./store/types.ts";
import { deadline, untilDone } from "./wait.ts";

const bootLeaseMs = 60_000;

/** The work between the intent and a sandbox that is ready, or failed. */
export class Builder {
  readonly #core: Core;
  readonly #programs: ImagePrograms;

  constructor(core: Core) {
    this.#core = core;
    this.#programs = new ImagePrograms(core);
  }

  /** Makes the sandbox of a record: engine, then guest, then the record says so. Resolves with its lease; rejects once what was made is taken back. */
  async build(
    sandboxId: string,
    spec: SandboxSpec,
    env: Record<string, string>,
    stop: AbortSignal,
    progress: ((message: string) => void) | undefined,
  ): Promise<GuestLease> {
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
      const lease = await this.#claim(sandboxId, full, Math.round(performance.now() - started), stop);
      logger.info(
        { sandbox_id: sandboxId, image: image.image, ms: Math.round(performance.now() - started) },
        "sandbox ready",
      );
      return lease;
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
  ): Promise<GuestLease> {
    const { store, connections } = this.#core;
    const record = store.sandbox(sandboxId);
    if (!record) throw new SandboxError("INTERNAL", `No record of ${sandboxId}.`);
    const signal = deadline(20_000, stop);
    const guest = await connections.guest(sandboxId, signal);
    // Env before lease: a claimed sandbox is a complete one, which is what a successor relies on.
    const [health] = await Promise.all([guest.health(signal), guest.patchEnv(env, signal)]);
    const lease = await guest.setLease({ ttl_ms: record.ttl_s * 1000, idle_ms: record.idle_s * 1000 }, signal);
    const image = record.image_id ?? record.image;
    const programs = this.#programs.known(image);
    await store.write((tx) => {
      const current = tx.sandbox(sandboxId);
      if (!current) return;
      // Destroyed meanwhile, or told dead by another process: then there is nothing to hand out.
      requireUnending(current);
      if (current.state !== "creating") return;
      markReady(tx, { ...current, shell: health.shell, ...(programs && { programs }) }, durationMs);
    });
    if (programs) return lease;
    // The first sandbox of an image is ready before it is known what is in it; its creator waits for that a little.
    const found = await this.#programs.ask(image, guest);
    if (found) await this.#keepPrograms(sandboxId, found);
    return lease;
  }

  /** Nothing depends on them: a disk that is full now makes no failure of a sandbox that is ready. */
  async #keepPrograms(sandboxId: string, programs: Record<string, string>): Promise<void> {
    const { store, logger } = this.#core;
    try {
      await store.write((tx) => {
        const current = tx.sandbox(sandboxId);
        if (current) tx.putSandbox({ ...current, programs });
      });
    } catch (err) {
      logger.warn({ err, sandbox_id: sandboxId }, "the programs of an image could not be noted");
    }
  }

  async #fail(sandboxId: string, stage: string, error: SandboxError): Promise<void> {
    const { store, backend, connections, logger } = this.#core;
    await connections.drop(sandboxId);
    const tell = () => tellFailed(store, sandboxId, stage, error);
    await tell().catch((err: unknown) => {
      logger.error({ err, sandbox_id: sandboxId }, "could not journal a failed create yet");
      // As long as it is told to be created by a live process, nobody else ends it.
      void untilDone(tell);
    });
    try {
      await backend.remove(sandboxId, deadline(15_000));
      if (store.sandbox(sandboxId)?.ending) await settleDeath(this.#core, sandboxId, undefined);
    } catch (err) {
      // The keeper removes what an engine that does not answer keeps for now.
      logger.debug({ err, sandbox_id: sandboxId }, "what was being created could not be removed yet");
    }
  }
}

const destroyedMeanwhile = (sandboxId: string, cause: unknown): SandboxError =>
  new SandboxError("SANDBOX_ENDED", `Sandbox ${sandboxId} was destroyed while it was being created.`, { cause });
