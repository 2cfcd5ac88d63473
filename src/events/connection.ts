import { setMaxListeners } from "node:events";
import type { NatsConnection } from "@nats-io/transport-node";
import { quoted } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { pause } from "../sandbox/wait.ts";
import { answers, connectOptions, type NatsLogin, serverNames } from "./login.ts";
import { backoff } from "./wait.ts";

/** A connection from the moment it is up until it goes down; after a reconnect there is a new session. */
export interface NatsSession {
  nc: NatsConnection;
  down: AbortSignal;
}

export interface LinkStatus {
  connected: boolean;
  server?: string;
  /** Why it is not connected. */
  error?: string;
}

/** Connects in the background, for ever; nothing waits for it but who asks for `up`. */
export interface NatsLink extends AsyncDisposable {
  /** The session, once there is one; undefined when the signal aborts first. */
  up(signal: AbortSignal): Promise<NatsSession | undefined>;
  current(): NatsSession | undefined;
  status(): LinkStatus;
}

export interface LinkOptions {
  login: NatsLogin;
  /** Shown on the server's monitoring pages. */
  name: string;
  logger: Logger;
}

const closeLimitMs = 1_000;

export function openLink(options: LinkOptions): NatsLink {
  return new Link(options);
}

class Link implements NatsLink {
  readonly #login: NatsLogin;
  readonly #name: string;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  /** What has been said since the last change of state, so that it is said once. */
  readonly #said = new Set<string>();
  readonly #done: Promise<void>;
  #session: (NatsSession & { end: AbortController }) | undefined;
  #connection: NatsConnection | undefined;
  #error: string | undefined;

  constructor({ login, name, logger }: LinkOptions) {
    this.#login = login;
    this.#name = name;
    this.#logger = logger.child({ part: "nats", servers: serverNames(login) });
    this.#done = this.#supervise();
  }

  current(): NatsSession | undefined {
    return this.#session;
  }

  status(): LinkStatus {
    const server = this.#session?.nc.getServer();
    return {
      connected: this.#session !== undefined,
      ...(server !== undefined && { server }),
      ...(this.#session === undefined && this.#error !== undefined && { error: this.#error }),
    };
  }

  up(signal: AbortSignal): Promise<NatsSession | undefined> {
    return new Promise((resolve) => {
      const check = () => {
        if (this.#session === undefined && !signal.aborted && !this.#stop.signal.aborted) return;
        this.#waiting.delete(check);
        signal.removeEventListener("abort", check);
        resolve(this.#session);
      };
      this.#waiting.add(check);
      signal.addEventListener("abort", check);
      check();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const check of [...this.#waiting]) check();
    const nc = this.#connection;
    if (nc !== undefined && !nc.isClosed()) {
      const limit = new AbortController();
      // A drain of a connection that is down waits for its return.
      if (this.#session) await Promise.race([nc.drain().catch(() => {}), pause(closeLimitMs, limit.signal)]);
      limit.abort();
      await nc.close().catch(() => {});
    }
    if (nc !== undefined) await this.#done;
  }

  /**
   * The client reconnects by itself once it has been connected. Until then, and after it gave up (unreadable credentials),
   * every attempt is a new connection, since its own first attempt cannot be cancelled and tells no reason.
   */
  async #supervise(): Promise<void> {
    const stop = this.#stop.signal;
    const nats = await import("@nats-io/transport-node");
    for (let attempt = 0; !stop.aborted; attempt += 1) {
      try {
        const nc = await nats.connect(await connectOptions(this.#login, this.#name));
        this.#connection = nc;
        attempt = 0;
        if (stop.aborted) await nc.close();
        else await this.#follow(nc);
      } catch (error) {
        if (stop.aborted) return;
        this.#trouble(error);
        // An attempt on a server that accepts and stays silent leaves its socket open; one is enough.
        while (error instanceof nats.TimeoutError && !stop.aborted && !(await answers(this.#login, 5_000))) {
          await pause(backoff(attempt, 250, 5_000), stop);
        }
      }
      await pause(backoff(attempt, 250, 5_000), stop);
    }
  }

  /** From connected to closed for good. */
  async #follow(nc: NatsConnection): Promise<void> {
    const statuses = nc.status();
    this.#wentUp(nc);
    for await (const status of statuses) {
      if (status.type === "disconnect") this.#wentDown();
      else if (status.type === "reconnect") this.#wentUp(nc);
      else if (status.type === "error") this.#trouble(status.error);
      else if (status.type === "staleConnection") {
        this.#wentDown();
        this.#trouble("the server no longer answers");
      }
    }
    const reason = await nc.closed();
    this.#wentDown();
    if (reason && !this.#stop.signal.aborted) this.#trouble(reason);
  }

  #wentUp(nc: NatsConnection): void {
    // After refused logins the client reports one return several times.
    if (this.#session?.nc === nc) return;
    const end = new AbortController();
    // Every sandbox that is blocked listens to it.
    setMaxListeners(0, end.signal);
    this.#session = { nc, down: end.signal, end };
    this.#said.clear();
    this.#error = undefined;
    this.#logger.info({ server: nc.getServer(), version: nc.info?.version }, "connected to NATS");
    for (const check of [...this.#waiting]) check();
  }

  #wentDown(): void {
    if (this.#session === undefined) return;
    const { end } = this.#session;
    this.#session = undefined;
    // What the session was refused is not why it is over.
    this.#error = undefined;
    this.#said.clear();
    end.abort();
    if (!this.#stop.signal.aborted) this.#logger.warn("disconnected from NATS; events wait in the journal");
  }

  #trouble(error: unknown): void {
    const words = quoted(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    this.#error = words;
    // Each word once between two changes; the bound keeps a server that words it differently every time from growing the set.
    if (this.#said.has(words) || this.#said.size >= 20) return;
    this.#said.add(words);
    if (this.#session === undefined) this.#logger.warn(`cannot connect to NATS: ${words}; trying on`);
    else this.#logger.warn(`NATS reports ${words}`);
  }
}
