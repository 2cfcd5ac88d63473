import { onTestFinished } from "vitest";
import type { BackendSpec, EngineFact, SandboxBackend } from "../../src/sandbox/backend.ts";
import { connectGuest } from "../../src/sandbox/guest/client.ts";
import type { Guest } from "../../src/sandbox/guest/types.ts";
import { newSandboxId } from "../../src/sandbox/ids.ts";

let nextUid = 20_000 + Math.floor(Math.random() * 30_000);

export interface ContractSandbox {
  id: string;
  spec: BackendSpec;
  guest: Guest;
}

/** The sandboxes and sessions of one test; all are gone when it is disposed of. */
export class ContractHouse implements AsyncDisposable {
  readonly backend: SandboxBackend;
  readonly #image: string;
  readonly #ids: string[] = [];
  readonly #guests: Guest[] = [];

  constructor(setup: { backend: SandboxBackend; image: string }) {
    this.backend = setup.backend;
    this.#image = setup.image;
  }

  /** A new sandbox with one session; unclaimed until the test extends its lease. */
  async sandbox(change: Partial<BackendSpec> = {}): Promise<ContractSandbox> {
    const spec = await this.create(change);
    const id = spec.sandbox_id;
    return { id, spec, guest: await this.connect(id) };
  }

  /** A new sandbox that nobody speaks to. */
  async create(change: Partial<BackendSpec> = {}): Promise<BackendSpec> {
    const { image_id } = await this.backend.resolveImage(this.#image);
    const id = newSandboxId();
    const spec: BackendSpec = {
      sandbox_id: id,
      image_id,
      profile: "strict",
      resources: { cpus: 1, memory_mb: 128, pids: 128, workspace_mb: 32 },
      network: "none",
      uid: nextUid++,
      boot_lease_ms: 60_000,
      spec_hash: "contract",
      ...change,
    };
    this.#ids.push(id);
    await this.backend.create(spec);
    return spec;
  }

  async connect(id: string): Promise<Guest> {
    const guest = connectGuest(await this.backend.connect(id));
    this.#guests.push(guest);
    return guest;
  }

  /** Engine facts from now on. */
  watch(): Watch {
    const watch = new Watch(this.backend);
    onTestFinished(() => watch.stop());
    return watch;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#guests.map((guest) => guest[Symbol.asyncDispose]()));
    await Promise.all(this.#ids.map((id) => this.backend.remove(id)));
  }
}

/** Collects what a watch yields, for tests to wait on. */
export class Watch {
  readonly #controller = new AbortController();
  readonly #facts: EngineFact[] = [];
  readonly #done: Promise<void>;
  #wake: () => void = () => {};

  constructor(backend: SandboxBackend) {
    this.#done = this.#follow(backend);
  }

  async #follow(backend: SandboxBackend): Promise<void> {
    for await (const fact of backend.watch(this.#controller.signal)) {
      this.#facts.push(fact);
      this.#wake();
    }
  }

  /** The first fact, past or to come, that fits. */
  async next(fits: (fact: EngineFact) => boolean): Promise<EngineFact> {
    for (;;) {
      const found = this.#facts.find(fits);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  died(sandboxId: string): Promise<EngineFact> {
    return this.next((fact) => fact.kind === "died" && fact.sandbox_id === sandboxId);
  }

  async stop(): Promise<void> {
    this.#controller.abort();
    await this.#done;
  }
}
