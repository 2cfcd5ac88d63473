import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import pino from "pino";
import { onTestFinished } from "vitest";
import { settleOnLoss } from "../../src/sandbox/access.ts";
import type { Call, CreateRequest } from "../../src/sandbox/api.ts";
import type { BackendSpec, ImageInfo, ResolveImageOptions } from "../../src/sandbox/backend.ts";
import type { Clock } from "../../src/sandbox/backends/memory/clock.ts";
import { type FakeSandbox, MemoryEngine } from "../../src/sandbox/backends/memory/engine.ts";
import { MemoryBackend } from "../../src/sandbox/backends/memory/memory.ts";
import { Connections } from "../../src/sandbox/connections.ts";
import type { Core } from "../../src/sandbox/core.ts";
import type { HostDir } from "../../src/sandbox/host-dirs.ts";
import { markedExecId } from "../../src/sandbox/ids.ts";
import { Keeper, type KeeperOptions } from "../../src/sandbox/keeper.ts";
import { effectivePolicy, type policyFileSchema } from "../../src/sandbox/policy.ts";
import { SandboxService } from "../../src/sandbox/service.ts";
import { StatsReader } from "../../src/sandbox/stats.ts";
import { openStore } from "../../src/sandbox/store/index.ts";
import type { SandboxRecord, Store } from "../../src/sandbox/store/types.ts";

export const call: Call = { signal: new AbortController().signal, client: "tests/1", folder: "/repo" };

/** What a test does just before, or just after, this process asks the engine for something. */
export interface Hooks {
  image?: (reference: string) => Promise<void> | void;
  create?: (spec: BackendSpec) => Promise<void> | void;
  created?: (sandbox: FakeSandbox) => Promise<void> | void;
  connect?: (sandboxId: string) => Promise<void> | void;
  lastWords?: (sandboxId: string) => Promise<void> | void;
}

export class HookedBackend extends MemoryBackend {
  hooks: Hooks = {};

  override async resolveImage(reference: string, options?: ResolveImageOptions): Promise<ImageInfo> {
    await this.hooks.image?.(reference);
    return super.resolveImage(reference, options);
  }

  override async create(spec: BackendSpec, signal?: AbortSignal): Promise<void> {
    await this.hooks.create?.(spec);
    await super.create(spec, signal);
    const sandbox = this.host.sandboxes.get(spec.sandbox_id);
    if (sandbox) await this.hooks.created?.(sandbox);
  }

  override async connect(sandboxId: string, signal?: AbortSignal) {
    await this.hooks.connect?.(sandboxId);
    return super.connect(sandboxId, signal);
  }

  override async lastWords(sandboxId: string, signal?: AbortSignal): Promise<string[]> {
    await this.hooks.lastWords?.(sandboxId);
    return super.lastWords(sandboxId, signal);
  }
}

/** As one server process has it: a store, a backend and a core of its own. */
export interface TestProcess extends AsyncDisposable {
  readonly core: Core;
  readonly store: Store;
  readonly backend: HookedBackend;
  readonly service: SandboxService;
  readonly stats: StatsReader;
  /** A keeper's candidate, looking often; it goes with the process. */
  keep(options?: KeeperOptions): Promise<Keeper>;
  /** Creates a sandbox and gives its id. */
  create(request?: CreateRequest): Promise<string>;
  /** Runs a shell line to its end. */
  exec(sandbox: string, command: string): ReturnType<SandboxService["execRun"]>;
}

export interface WorldOptions {
  clock?: Clock;
  policy?: typeof policyFileSchema._output;
  hostDirs?: HostDir[];
}

export interface ProcessOptions {
  /** How long a sandbox counts as looked at. */
  watchedForMs?: number;
  engine?: MemoryEngine;
  tenant?: string;
  /** Warm sandboxes to keep. @default 0, so that tests may count what there is */
  pool?: number;
  policy?: typeof policyFileSchema._output;
}

/** A data dir and an engine, shared by any number of processes of one test; all of it goes with the test. */
export class World {
  readonly engine: MemoryEngine;
  readonly #options: WorldOptions;
  readonly #processes: TestProcess[] = [];
  #dataDir: Promise<string> | undefined;
  #opening: Promise<unknown> = Promise.resolve();

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.engine = new MemoryEngine(options.clock ? { clock: options.clock } : {});
    onTestFinished(async () => {
      this.engine.unreachable(false);
      for (const process of this.#processes.reverse()) await process[Symbol.asyncDispose]();
      if (this.#dataDir) await rm(await this.#dataDir, { recursive: true, force: true });
    });
  }

  /**
   * One process more. They are opened one after the other and before any of them works: lmdb opens tables in the foreground, and
   * within one real process it would wait for itself.
   */
  process(options: ProcessOptions = {}): Promise<TestProcess> {
    const opened = this.#opening.then(() => this.#open(options));
    this.#opening = opened.catch(() => {});
    return opened;
  }

  dataDir(): Promise<string> {
    this.#dataDir ??= mkdtemp(path.join(tmpdir(), "chorus-core-"));
    return this.#dataDir;
  }

  async #open(options: ProcessOptions): Promise<TestProcess> {
    const tenant = options.tenant ?? "default";
    const store = await openStore({ dataDir: await this.dataDir(), host: "host-1", tenant });
    const backend = new HookedBackend({ engine: options.engine ?? this.engine, installId: store.installId });
    const logger = pino({ level: process.env["LOG_LEVEL"] ?? "silent" }, pino.destination(2));
    const connections = new Connections(backend, logger);
    const core: Core = {
      store,
      backend,
      connections,
      policy: effectivePolicy(options.policy ?? this.#options.policy ?? {}, "tests", 8),
      defaultImage: "chorus-sandbox/base",
      hostDirs: this.#options.hostDirs ?? [],
      tenant,
      pool: options.pool ?? 0,
      logger,
      settling: new Map(),
      lastUsed: new Map(),
      updating: new Map(),
      toCloudEvent: (entry) => ({ ...entry }),
    };
    settleOnLoss(core);
    const stats = new StatsReader(core, options.watchedForMs);
    const service = new SandboxService(core, stats);
    const keepers: Keeper[] = [];
    let disposed: Promise<void> | undefined;
    const started: TestProcess = {
      core,
      store,
      backend,
      service,
      stats,
      keep: async (keeperOptions = {}) => {
        const keeper = new Keeper(core, stats, { ...keeperOptions, timing: { ...quick, ...keeperOptions.timing } });
        keepers.push(keeper);
        await keeper.start(2_000);
        return keeper;
      },
      create: async (request = {}) => (await service.create(request, call)).sandbox_id,
      exec: (sandbox, command) => service.execRun(sandbox, { command }, call),
      [Symbol.asyncDispose]: () => {
        disposed ??= (async () => {
          for (const part of [service, ...keepers, connections, backend, store]) await part[Symbol.asyncDispose]();
        })();
        return disposed;
      },
    };
    this.#processes.push(started);
    return started;
  }
}

/** A keeper whose rounds a test need not wait for. */
const quick = { renewMs: 20, staleMs: 60_000, sweepMs: 20 };

/** An exec's id as a server of that install makes it, with a name in it. */
export const ex = ({ store }: TestProcess, name: string): string => markedExecId(store.installId, name);

/** What the journal tells of a sandbox, oldest first. */
export function story(store: Store, sandboxId: string): string[] {
  return entries(store, sandboxId).map(({ type }) => type);
}

export function entries(store: Store, sandboxId: string) {
  return store.journal.after(0, { limit: 10_000, sandboxId });
}

export function told(store: Store, sandboxId: string, type: string): Record<string, unknown>[] {
  return entries(store, sandboxId)
    .filter((entry) => entry.type === type)
    .map(({ data }) => data);
}

/** The record of a sandbox that must be there. */
export function recordOf(store: Store, sandboxId: string): SandboxRecord {
  const record = store.sandbox(sandboxId);
  if (!record) throw new Error(`no record of ${sandboxId}`);
  return record;
}

/** The sandbox as its engine has it. */
export function fakeOf(engine: MemoryEngine, sandboxId: string): FakeSandbox {
  const sandbox = engine.sandboxes.get(sandboxId);
  if (!sandbox) throw new Error(`the engine has no ${sandboxId}`);
  return sandbox;
}

/** A promise and who resolves it. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
