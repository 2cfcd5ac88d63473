import { setTimeout as delay } from "node:timers/promises";
import { SandboxError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { SandboxBackend } from "./backend.ts";
import { connectGuest } from "./guest/client.ts";
import type { Guest } from "./guest/types.ts";
import { abortable, deadline } from "./wait.ts";

const connectMs = 15_000;
const unreached = "The sandbox's guest could not be reached";

interface Session {
  opening: Promise<Guest>;
  live?: Guest;
}

/** One session per sandbox this process uses, opened on first need and shared by all calls. */
export class Connections implements AsyncDisposable {
  readonly #backend: SandboxBackend;
  readonly #logger: Logger;
  readonly #sessions = new Map<string, Session>();
  readonly #lostListeners = new Set<(sandboxId: string) => void>();
  #disposed = false;

  constructor(backend: SandboxBackend, logger: Logger) {
    this.#backend = backend;
    this.#logger = logger;
  }

  /** Called when a session ends that nobody closed: the fastest sign of a death. */
  onLost(listener: (sandboxId: string) => void): void {
    this.#lostListeners.add(listener);
  }

  /** The live session, without opening one. */
  peek(sandboxId: string): Guest | undefined {
    const live = this.#sessions.get(sandboxId)?.live;
    return live?.isClosed ? undefined : live;
  }

  /** The session with a sandbox's guest; aborting the signal ends the wait, not the opening, which others may share. */
  async guest(sandboxId: string, signal?: AbortSignal): Promise<Guest> {
    if (this.#disposed) throw new SandboxError("ABORTED", "The server is shutting down.");
    const known = this.#sessions.get(sandboxId);
    if (known?.live && !known.live.isClosed) return known.live;
    if (known && !known.live) return abortable(known.opening, signal, unreached);
    const session: Session = { opening: this.#open(sandboxId) };
    this.#sessions.set(sandboxId, session);
    session.opening.then(
      (guest) => this.#adopt(sandboxId, session, guest),
      () => this.#forget(sandboxId, session),
    );
    return abortable(session.opening, signal, unreached);
  }

  async #open(sandboxId: string): Promise<Guest> {
    const signal = deadline(connectMs);
    const started = performance.now();
    const guest = connectGuest(await this.#backend.connect(sandboxId, signal));
    try {
      // A stream that opens but never answers is no session.
      const health = await guest.health(signal);
      if (health.sandbox_id !== sandboxId) {
        throw new SandboxError("GUEST_UNAVAILABLE", `The guest says it belongs to another sandbox than ${sandboxId}.`);
      }
      this.#logger.debug({ sandbox_id: sandboxId, ms: Math.round(performance.now() - started) }, "guest connected");
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  #adopt(sandboxId: string, session: Session, guest: Guest): void {
    // Dropped while it was being opened: nobody would ever close it.
    if (this.#sessions.get(sandboxId) !== session) {
      void guest[Symbol.asyncDispose]();
      return;
    }
    session.live = guest;
    void guest.closed.then(() => {
      const current = this.#sessions.get(sandboxId) === session;
      this.#forget(sandboxId, session);
      if (current) for (const listener of this.#lostListeners) listener(sandboxId);
    });
  }

  #forget(sandboxId: string, session: Session): void {
    if (this.#sessions.get(sandboxId) === session) this.#sessions.delete(sandboxId);
  }

  /** Closes the session, if there is one, without telling `onLost`. */
  async drop(sandboxId: string): Promise<void> {
    const session = this.#sessions.get(sandboxId);
    this.#sessions.delete(sandboxId);
    await session?.live?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const open = [...this.#sessions.values()];
    this.#sessions.clear();
    const closing = Promise.all(open.map((session) => session.live?.[Symbol.asyncDispose]()));
    await Promise.race([closing, delay(1000, undefined, { ref: false })]);
  }
}
