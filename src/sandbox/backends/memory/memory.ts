import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";
import { givenUp, quoted, SandboxError } from "../../../errors.ts";
import {
  type BackendLimits,
  type BackendSpec,
  type BackendStatus,
  type EngineFact,
  type EngineInfo,
  type ImageInfo,
  memoryBudgetMb,
  type ResolveImageOptions,
  type SandboxBackend,
} from "../../backend.ts";
import type { Clock } from "./clock.ts";
import { type FakeSandbox, MemoryEngine } from "./engine.ts";

export interface MemoryBackendOptions {
  /** Whose sandboxes it sees. @default "memory" */
  installId?: string;
  /** Share one to be several servers or installs on one engine. @default one of its own */
  engine?: MemoryEngine;
  /** Time of an engine of its own. @default the process's */
  clock?: Clock;
}

/**
 * The port without an engine: sandboxes are objects, their guests speak the real protocol from this process. For tests. Every
 * image exists except those whose name begins with `no-such`.
 */
export class MemoryBackend implements SandboxBackend {
  readonly name = "memory";
  readonly host: MemoryEngine;
  readonly #installId: string;
  readonly #disposed = new AbortController();
  readonly #connections = new Set<Duplex>();

  constructor(options: MemoryBackendOptions = {}) {
    this.host = options.engine ?? new MemoryEngine(options.clock === undefined ? {} : { clock: options.clock });
    this.#installId = options.installId ?? "memory";
  }

  async engine(signal?: AbortSignal): Promise<EngineInfo> {
    this.#enter(signal);
    return {
      ...{ engine_id: this.host.id, description: "in-process fake engine", version: "0", runtimes: ["memory"] },
      ...{ cpus: 8, memory_bytes: 64 * 1024 ** 3 },
    };
  }

  async resolveImage(reference: string, options: ResolveImageOptions = {}): Promise<ImageInfo> {
    this.#enter(options.signal);
    const name = reference.split("/").at(-1) ?? "";
    if (name === "" || name.startsWith("no-such")) {
      throw new SandboxError("IMAGE_NOT_FOUND", `There is no image ${quoted(reference)}.`);
    }
    const tagged = /[:@]/.test(name) ? reference : `${reference}:latest`;
    const hasHost = /^(localhost|[^/]*[.:][^/]*)\//.test(tagged);
    const image = hasHost ? tagged : `docker.io/${tagged.includes("/") ? "" : "library/"}${tagged}`;
    return { image, image_id: `memory:${image}` };
  }

  async create(spec: BackendSpec, signal?: AbortSignal): Promise<void> {
    this.#enter(signal);
    if (!spec.image_id.startsWith("memory:"))
      throw new SandboxError("IMAGE_NOT_FOUND", "There is no image of that id.");
    this.host.start(this.#installId, spec);
  }

  async recipe({ sandbox_id: _id, uid: _uid, ...spec }: BackendSpec, signal?: AbortSignal): Promise<string> {
    this.#enter(signal);
    return createHash("sha256").update(JSON.stringify(spec)).digest("hex");
  }

  async connect(sandboxId: string, signal?: AbortSignal): Promise<Duplex> {
    this.#enter(signal);
    const stream = this.#running(sandboxId).server.connect();
    this.#connections.add(stream);
    stream.on("close", () => this.#connections.delete(stream));
    return stream;
  }

  async status(sandboxId: string, signal?: AbortSignal): Promise<BackendStatus | undefined> {
    this.#enter(signal);
    const sandbox = this.#find(sandboxId);
    if (sandbox?.status.state !== "running") return sandbox && { ...sandbox.status };
    const { limits } = sandbox.guest.options;
    const { cpus, pids } = limits;
    return { ...sandbox.status, limits: { memory_limit_mb: memoryBudgetMb(limits), cpus, pids } };
  }

  async list(signal?: AbortSignal): Promise<BackendStatus[]> {
    this.#enter(signal);
    const mine = [...this.host.sandboxes.values()].filter(({ installId }) => installId === this.#installId);
    return mine.map(({ status }) => ({ ...status }));
  }

  async update(sandboxId: string, limits: BackendLimits, signal?: AbortSignal): Promise<void> {
    this.#enter(signal);
    const { workspace_mb: _part, ...changed } = limits;
    Object.assign(this.#running(sandboxId).guest.options.limits, changed);
  }

  /** Nothing outlives the process. */
  async tidy(): Promise<number> {
    return 0;
  }

  async kill(sandboxId: string, signal?: AbortSignal): Promise<void> {
    this.#enter(signal);
    const sandbox = this.#find(sandboxId);
    if (sandbox) this.host.kill(sandbox);
  }

  async remove(sandboxId: string, signal?: AbortSignal): Promise<void> {
    this.#enter(signal);
    const sandbox = this.#find(sandboxId);
    if (sandbox) this.host.remove(sandbox);
  }

  async lastWords(sandboxId: string, signal?: AbortSignal): Promise<string[]> {
    this.#enter(signal);
    return [...this.#known(sandboxId).lines];
  }

  watch(signal: AbortSignal): AsyncIterable<EngineFact> {
    return this.host.watch(this.#installId, AbortSignal.any([signal, this.#disposed.signal]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    for (const stream of this.#connections) stream.destroy();
  }

  /** The guest dies as if by itself, without a last word. */
  crash(sandboxId: string, exitCode?: number): void {
    this.host.crash(sandboxId, exitCode);
  }

  /** The engine is gone, or back. */
  unreachable(unreachable: boolean): void {
    this.host.unreachable(unreachable);
  }

  /** Breaks every connection to a guest, which lives on. */
  dropConnections(sandboxId: string): void {
    this.host.dropConnections(sandboxId);
  }

  #enter(signal: AbortSignal | undefined): void {
    if (signal?.aborted) throw givenUp(signal.reason, "The memory engine did not answer");
    this.host.assertReachable();
  }

  #find(sandboxId: string): FakeSandbox | undefined {
    const sandbox = this.host.sandboxes.get(sandboxId);
    return sandbox?.installId === this.#installId ? sandbox : undefined;
  }

  #known(sandboxId: string): FakeSandbox {
    const sandbox = this.#find(sandboxId);
    if (sandbox === undefined) throw new SandboxError("SANDBOX_NOT_FOUND", `There is no sandbox ${quoted(sandboxId)}.`);
    return sandbox;
  }

  #running(sandboxId: string): FakeSandbox {
    const sandbox = this.#known(sandboxId);
    if (sandbox.status.state === "running") return sandbox;
    throw new SandboxError(
      "SANDBOX_ENDED",
      `Sandbox ${quoted(sandboxId)} has ended with exit code ${sandbox.status.exit_code}.`,
    );
  }
}
