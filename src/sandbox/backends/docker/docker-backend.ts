import { userInfo } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { hasCode, type SandboxError } from "../../../errors.ts";
import type { Logger } from "../../../logger.ts";
import type {
  BackendLimits,
  BackendSpec,
  BackendStatus,
  EngineFact,
  EngineInfo,
  ImageInfo,
  ResolveImageOptions,
  SandboxBackend,
} from "../../backend.ts";
import { EngineClient } from "./client.ts";
import { ContainerCreator, removal } from "./containers.ts";
import { limitFailure } from "./errors.ts";
import { containerRows, engineInfo, infoAnswer, stateOf, statusOf } from "./facts.ts";
import { GuestVolumes } from "./guest-volume.ts";
import { GuestWire } from "./guest-wire.ts";
import { Images } from "./images.ts";
import { label, sandboxIdOf } from "./labels.ts";
import { orAborted } from "./limits.ts";
import { updateOptions } from "./options.ts";
import { OwnContainers } from "./own-containers.ts";
import { registryAuth } from "./registry-auth.ts";
import type { DockerBackendOptions } from "./settings.ts";
import { lastLines } from "./stream.ts";
import { watchEngine } from "./watch.ts";

const lastWords = { lines: 2_000, bytes: 1024 * 1024 };
const inspectedAtOnce = 8;

/** All state is a cache: the engine's answers decide. */
export class DockerBackend implements SandboxBackend {
  readonly name = "docker";
  readonly #installId: string;
  readonly #logger: Logger;
  readonly #engine: EngineClient;
  readonly #images: Images;
  readonly #guests: GuestVolumes;
  readonly #creator: ContainerCreator;
  readonly #disposal = new AbortController();
  readonly #containers: OwnContainers;
  readonly #wire: GuestWire;
  #info: Promise<EngineInfo> | undefined;

  constructor(options: DockerBackendOptions) {
    const user = userInfo();
    this.#installId = options.installId;
    this.#logger = options.logger;
    this.#engine = new EngineClient({ home: user.homedir, ...options.engine, uid: user.uid });
    const { configDir = join(options.engine.home ?? user.homedir, ".docker") } = options.engine;
    this.#images = new Images(this.#engine, {
      defaultImage: options.defaultImage,
      authFor: async (domain, signal) =>
        options.registryCredentials === false ? undefined : registryAuth(configDir, domain, signal),
    });
    this.#guests = new GuestVolumes(this.#engine, options.guestBinary, options.installId);
    this.#containers = new OwnContainers(this.#engine, options.installId);
    const mayBeDirect = options.direct !== false && process.platform === "linux" && user.uid === 0;
    this.#wire = new GuestWire({ engine: this.#engine, containers: this.#containers, mayBeDirect });
    this.#creator = new ContainerCreator({
      engine: this.#engine,
      images: this.#images,
      guests: this.#guests,
      installId: options.installId,
    });
  }

  engine(signal?: AbortSignal): Promise<EngineInfo> {
    this.#info ??= this.#readInfo().catch((error: unknown) => {
      this.#info = undefined;
      throw error;
    });
    return orAborted(this.#info, signal);
  }

  async #readInfo(): Promise<EngineInfo> {
    const info = await this.#engine.json(infoAnswer, { path: "/info", action: "tell what it is" });
    const connection = await this.#engine.connection();
    const described = engineInfo(connection, info);
    this.#logger.info({ engine: described.description, found: connection.address.found }, "Found the engine.");
    return described;
  }

  resolveImage(reference: string, options?: ResolveImageOptions): Promise<ImageInfo> {
    return this.#images.resolve(reference, options);
  }

  async create(spec: BackendSpec, signal?: AbortSignal): Promise<void> {
    const begun = performance.now();
    this.#containers.remember(spec.sandbox_id, await this.#creator.create(spec, signal));
    const duration_ms = Math.round(performance.now() - begun);
    this.#logger.debug({ sandbox_id: spec.sandbox_id, duration_ms }, "Created a container.");
  }

  recipe(spec: BackendSpec, signal?: AbortSignal): Promise<string> {
    return this.#creator.recipe(spec, signal);
  }

  connect(sandboxId: string, signal?: AbortSignal): Promise<Duplex> {
    return this.#wire.connect(sandboxId, signal);
  }

  async status(sandboxId: string, signal?: AbortSignal): Promise<BackendStatus | undefined> {
    const container = await this.#containers.look(sandboxId, signal).catch(unless("SANDBOX_NOT_FOUND"));
    return container && statusOf(sandboxId, container);
  }

  async list(signal?: AbortSignal): Promise<BackendStatus[]> {
    const rows = await this.#engine.json(containerRows, {
      path: "/containers/json",
      query: { all: "true", filters: JSON.stringify({ label: [`${label.install}=${this.#installId}`] }) },
      action: "list the sandboxes",
      signal,
    });
    const statuses: BackendStatus[] = [];
    const ended: string[] = [];
    for (const row of rows) {
      const id = sandboxIdOf({ name: row.Names?.[0], labels: row.Labels, installId: this.#installId });
      if (id === undefined) continue;
      const state = stateOf(row.State);
      if (state === "exited") {
        ended.push(id);
        continue;
      }
      const created_at = row.Created === undefined ? undefined : new Date(row.Created * 1000).toISOString();
      statuses.push({ sandbox_id: id, state, oom_killed: false, ...(created_at === undefined ? {} : { created_at }) });
    }
    // How it ended is not in the list.
    for (let at = 0; at < ended.length; at += inspectedAtOnce) {
      const batch = await Promise.all(ended.slice(at, at + inspectedAtOnce).map((id) => this.status(id, signal)));
      statuses.push(...batch.filter((status) => status !== undefined));
    }
    return statuses;
  }

  async update(sandboxId: string, limits: BackendLimits, signal?: AbortSignal): Promise<void> {
    const body = updateOptions(limits);
    if (Object.keys(body).length === 0) return;
    await this.#containers
      .with(sandboxId, signal, (containerId) =>
        this.#engine.run({
          method: "POST",
          path: `/containers/${containerId}/update`,
          body,
          action: "change the limits",
          signal,
        }),
      )
      .catch((error: unknown) => {
        throw limitFailure(error, limits);
      });
  }

  async kill(sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#containers
      .with(sandboxId, signal, (containerId) =>
        this.#engine.run({
          method: "POST",
          path: `/containers/${containerId}/kill`,
          query: { signal: "SIGKILL" },
          action: "kill the sandbox",
          signal,
        }),
      )
      .catch(unless("SANDBOX_NOT_FOUND", "SANDBOX_NOT_RUNNING", "CONFLICT"));
  }

  async remove(sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#containers
      .with(sandboxId, signal, async (containerId) => {
        try {
          await this.#engine.run({ ...removal(containerId), signal });
        } catch (error) {
          unless("CONFLICT")(error);
          // Somebody else is removing it: done when they are.
          const path = `/containers/${containerId}/wait`;
          await this.#engine.run({
            method: "POST",
            path,
            query: { condition: "removed" },
            action: "remove the sandbox",
            signal,
          });
        }
      })
      .catch(unless("SANDBOX_NOT_FOUND"));
    this.#containers.forget(sandboxId);
  }

  async lastWords(sandboxId: string, signal?: AbortSignal): Promise<string[]> {
    const framed = await this.#containers.with(sandboxId, signal, (containerId) =>
      this.#engine.bytes(
        {
          path: `/containers/${containerId}/logs`,
          query: { stdout: "true", stderr: "false", tail: String(lastWords.lines) },
          action: "read the flight recorder",
          signal,
        },
        { max: 8 * lastWords.bytes, cut: true },
      ),
    );
    return lastLines(framed, lastWords);
  }

  tidy(signal?: AbortSignal): Promise<number> {
    return this.#guests.tidy(signal);
  }

  watch(signal: AbortSignal): AsyncIterable<EngineFact> {
    const either = AbortSignal.any([signal, this.#disposal.signal]);
    return watchEngine(this.#engine, { installId: this.#installId, logger: this.#logger, signal: either });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal.abort();
  }
}

/** Passes over the errors that mean there is nothing to do. */
function unless(...codes: SandboxError["code"][]): (error: unknown) => undefined {
  return (error) => {
    if (hasCode(error, ...codes)) return undefined;
    throw error;
  };
}
