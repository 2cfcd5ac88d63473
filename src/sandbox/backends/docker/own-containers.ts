import { hasCode, SandboxError } from "../../../errors.ts";
import type { EngineClient } from "./client.ts";
import { type ContainerAnswer, containerAnswer } from "./facts.ts";
import { sandboxIdOf } from "./labels.ts";

const remembered = 1_000;

/** The containers of this install's sandboxes, found by id: a foreign container's name cannot be met by chance or by intent. */
export class OwnContainers {
  readonly #engine: EngineClient;
  readonly #installId: string;
  /** Container ids of sandboxes known to be ours, so that no call has to look twice. */
  readonly #ids = new Map<string, string>();

  constructor(engine: EngineClient, installId: string) {
    this.#engine = engine;
    this.#installId = installId;
  }

  /** Runs `call` with the id of the sandbox's container. */
  async with<T>(
    sandboxId: string,
    signal: AbortSignal | undefined,
    call: (containerId: string) => Promise<T>,
  ): Promise<T> {
    const containerId = this.#ids.get(sandboxId) ?? (await this.look(sandboxId, signal)).Id;
    try {
      return await call(containerId);
    } catch (error) {
      if (hasCode(error, "SANDBOX_NOT_FOUND")) this.forget(sandboxId);
      throw error;
    }
  }

  /** The engine's view of a sandbox, as it is now. */
  async look(sandboxId: string, signal: AbortSignal | undefined): Promise<ContainerAnswer> {
    const path = `/containers/${encodeURIComponent(sandboxId)}/json`;
    const request = { path, action: "look at the sandbox", signal };
    const container = await this.#engine.json(containerAnswer, request).catch((error: unknown) => {
      throw hasCode(error, "SANDBOX_NOT_FOUND") ? notFound(sandboxId) : error;
    });
    const owner = { name: container.Name, labels: container.Config.Labels, installId: this.#installId };
    if (sandboxIdOf(owner) !== sandboxId) throw notFound(sandboxId);
    this.remember(sandboxId, container.Id);
    return container;
  }

  remember(sandboxId: string, containerId: string): void {
    const oldest = this.#ids.keys().next().value;
    if (this.#ids.size >= remembered && oldest !== undefined) this.#ids.delete(oldest);
    this.#ids.set(sandboxId, containerId);
  }

  forget(sandboxId: string): void {
    this.#ids.delete(sandboxId);
  }
}

const notFound = (sandboxId: string): SandboxError =>
  new SandboxError("SANDBOX_NOT_FOUND", `The engine has no sandbox ${JSON.stringify(sandboxId.slice(0, 64))}.`);
