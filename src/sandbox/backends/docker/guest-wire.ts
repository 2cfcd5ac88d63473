import type { Duplex } from "node:stream";
import { z } from "zod";
import type { EngineClient } from "./client.ts";
import { directStream } from "./direct.ts";
import { guestPath, paths } from "./layout.ts";
import type { OwnContainers } from "./own-containers.ts";
import { AttachedStream } from "./stream.ts";

const execAnswer = z.object({ Id: z.string() });

export interface GuestWireOptions {
  engine: EngineClient;
  containers: OwnContainers;
  /** Whether this process could enter the guest's folder, were it on the engine's host. */
  mayBeDirect: boolean;
}

/** Opens connections to guests. */
export class GuestWire {
  readonly #engine: EngineClient;
  readonly #containers: OwnContainers;
  readonly #mayBeDirect: boolean;

  constructor({ engine, containers, mayBeDirect }: GuestWireOptions) {
    this.#engine = engine;
    this.#containers = containers;
    this.#mayBeDirect = mayBeDirect;
  }

  async connect(sandboxId: string, signal: AbortSignal | undefined): Promise<Duplex> {
    return (await this.#direct(sandboxId, signal)) ?? this.#bridge(sandboxId, signal);
  }

  /** The guest's own socket, where this process may reach it. */
  async #direct(sandboxId: string, signal: AbortSignal | undefined): Promise<Duplex | undefined> {
    if (!this.#mayBeDirect) return undefined;
    const { address } = await this.#engine.connection();
    if (!("socketPath" in address)) return undefined;
    const { Id, State } = await this.#containers.look(sandboxId, signal);
    return State.Pid ? directStream(Id, State.Pid, signal) : undefined;
  }

  /** A process beside the guest that joins its socket to a stream of the engine: for any engine, wherever it is. */
  async #bridge(sandboxId: string, signal: AbortSignal | undefined): Promise<Duplex> {
    const { Id } = await this.#containers.with(sandboxId, signal, (containerId) =>
      this.#engine.json(execAnswer, {
        method: "POST",
        path: `/containers/${containerId}/exec`,
        body: {
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: true,
          Tty: false,
          User: "0:0",
          WorkingDir: "/",
          // Each of its threads is one of the sandbox's reserve.
          Env: ["GOMAXPROCS=1"],
          Cmd: [guestPath, "connect", "--run", paths.run],
        },
        action: "reach the guest",
        signal,
      }),
    );
    const wire = await this.#engine.hijack({
      method: "POST",
      path: `/exec/${Id}/start`,
      body: { Detach: false, Tty: false },
      action: "reach the guest",
      notFound: "GUEST_UNAVAILABLE",
      signal,
    });
    return new AttachedStream(wire);
  }
}
