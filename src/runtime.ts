import { type Config, defaultImage } from "./config.ts";
import type { Publisher } from "./events/publisher.ts";
import type { Logger } from "./logger.ts";
import type { Sandboxes } from "./sandbox/api.ts";
import type { SandboxBackend } from "./sandbox/backend.ts";
import type { Used } from "./sandbox/core.ts";
import type { Store } from "./sandbox/store/types.ts";

export interface Surroundings {
  home: string;
  hostname: string;
  /** Folder with the guest binaries, `chorus-guest-linux-<arch>`. */
  guestDir: string;
  /** Builds the default image when the engine lacks it. */
  buildDefaultImage: (onProgress: (message: string) => void, signal: AbortSignal) => Promise<void>;
  version: string;
}

const load = () =>
  Promise.all([
    import("./sandbox/store/index.ts"),
    import("./sandbox/connections.ts"),
    import("./sandbox/service.ts"),
    import("./sandbox/stats.ts"),
    import("./sandbox/keeper.ts"),
    import("./sandbox/access.ts"),
    import("./events/envelope.ts"),
  ]);

/** The first call after a crash hears of what happened meanwhile, if engine and store tell within this time. */
const firstLookMs = 2_000;

/**
 * Everything behind the protocol: store, backend, core, keeper and relay. Nothing is touched before the first `sandboxes()`:
 * clients start servers just to look. What fails to open is tried again by the next call.
 */
export class Runtime implements AsyncDisposable {
  readonly #config: Config;
  readonly #around: Surroundings;
  readonly #logger: Logger;
  readonly #open: AsyncDisposable[] = [];
  #opening: Promise<Sandboxes> | undefined;
  #disposed: Promise<void> | undefined;

  constructor(config: Config, around: Surroundings, logger: Logger) {
    this.#config = config;
    this.#around = around;
    this.#logger = logger;
  }

  sandboxes(): Promise<Sandboxes> {
    this.#opening ??= this.#start().catch(async (error: unknown) => {
      this.#opening = undefined;
      await this.#close();
      throw error;
    });
    return this.#opening;
  }

  /** Loads the code that the first call needs, so that it need not wait for it. Touches nothing; a failure is the first call's to tell. */
  preload(): void {
    Promise.all([load(), import("./sandbox/backends/docker/index.ts"), import("lmdb"), import("dockerode")]).catch(
      () => {},
    );
  }

  async #start(): Promise<Sandboxes> {
    const config = this.#config;
    const logger = this.#logger;
    const [
      { openStore },
      { Connections },
      { SandboxService },
      { StatsReader },
      { Keeper },
      { settleOnLoss },
      { toCloudEvent },
    ] = await load();
    const host = (installId: string) => config.host ?? `${this.#around.hostname}-${installId.slice(0, 6)}`;
    const store = await openStore({ dataDir: config.dataDir, host, tenant: config.tenant, logger });
    this.#open.push(store);
    const backend = await this.#backend(store);
    this.#open.push(backend);
    const connections = new Connections(backend, logger);
    this.#open.push(connections);
    let publisher: Publisher | undefined;
    const core = {
      store,
      backend,
      connections,
      policy: config.policy,
      defaultImage: config.image,
      hostDirs: config.hostDirs,
      tenant: config.tenant,
      pool: config.pool,
      logger,
      settling: new Map<string, Promise<void>>(),
      lastUsed: new Map<string, Used>(),
      updating: new Map<string, Promise<void>>(),
      undelivered: () => publisher?.undelivered(),
      toCloudEvent: (entry: Parameters<typeof toCloudEvent>[0]) => ({ ...toCloudEvent(entry) }),
    };
    settleOnLoss(core);
    publisher = await this.#publisher(store, backend, host(store.installId));
    if (publisher) this.#open.push(publisher);
    const live = publisher?.live;
    const stats = new StatsReader(core);
    const keeper = new Keeper(core, stats, live && { onStats: (record, sample) => live.stats(record, sample) });
    this.#open.push(keeper);
    const service = new SandboxService(core, stats);
    this.#open.push(service);
    await keeper.start(firstLookMs);
    return service;
  }

  async #backend(store: Store): Promise<SandboxBackend> {
    const { createDockerBackend } = await import("./sandbox/backends/docker/index.ts");
    const { home, guestDir, buildDefaultImage } = this.#around;
    const { engine, image, policy } = this.#config;
    return createDockerBackend({
      installId: store.installId,
      engine: { ...engine, home },
      registryCredentials: policy.registry_credentials,
      guestBinary: (arch) => `${guestDir}/chorus-guest-linux-${arch}`,
      // Only the image of ours can be built; another one named by the operator is pulled like any.
      ...(image === defaultImage && { defaultImage: { name: image, build: buildDefaultImage } }),
      logger: this.#logger,
    });
  }

  async #publisher(store: Store, backend: SandboxBackend, host: string): Promise<Publisher | undefined> {
    const { nats, tenant, policy } = this.#config;
    if (!nats) return undefined;
    const [{ startPublisher }, { hostOffer }] = await Promise.all([
      import("./events/publisher.ts"),
      import("./sandbox/host-up.ts"),
    ]);
    const hostUp = hostOffer({ backend, store, policy, version: this.#around.version });
    return startPublisher({ login: nats, store, host, tenant, hostUp, logger: this.#logger });
  }

  async #close(): Promise<void> {
    // Last opened, first closed: the service writes to the store, the relay drains it.
    for (const part of this.#open.splice(0).reverse()) {
      try {
        await part[Symbol.asyncDispose]();
      } catch (err) {
        this.#logger.warn({ err }, "closing a part failed");
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= (async () => {
      await this.#opening?.catch(() => {});
      await this.#close();
    })();
    return this.#disposed;
  }
}
