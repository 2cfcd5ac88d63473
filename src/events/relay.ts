import type { Logger } from "../logger.ts";
import type { Journal, Roles } from "../sandbox/store/types.ts";
import { pause } from "../sandbox/wait.ts";
import type { NatsLink, NatsSession } from "./connection.ts";
import { Delivery, type DeliveryOptions } from "./delivery.ts";
import type { ReadAhead } from "./lanes.ts";
import { StreamKeeper } from "./stream.ts";

const renewEveryMs = 2_000;
const staleMs = 10_000;
const publishTimeoutMs = 5_000;
const attendAgainMs = 10_000;

export interface RelayOptions {
  journal: Journal;
  /** Absent where only one process can relay, as in tests. */
  roles?: Roles;
  /** Names servers and account; relays with the same target share role and cursor. */
  target: string;
  link: NatsLink;
  /** Resolves once everything committed so far survives a power cut. */
  flushed: () => Promise<void>;
  logger: Logger;
  /** How long `dispose` goes on relaying what is committed. @default 2000 */
  drainMs?: number;
  /** How often the journal hears that this target is configured. @default 3600000 */
  attendEveryMs?: number;
  /** @default 10 000 entries, 16 MiB */
  readAhead?: ReadAhead;
}

export interface RelayStatus {
  /** `standby`: another process is the one to relay; with `no_stream` and `relaying` it is this one. */
  state: "disconnected" | "standby" | "no_stream" | "relaying" | "stopped";
  /** Why there is no stream. */
  error?: string;
  /** All entries up to here are acknowledged. */
  cursor: number;
  /** Entries of the journal beyond it. */
  behind: number;
  in_flight: number;
  blocked: { sandbox_id: string; error: string }[];
  published: number;
  duplicates: number;
  failures: number;
}

/** Carries the journal to NATS. No call of it is ever waited for by a tool. */
export interface Relay extends AsyncDisposable {
  status(): RelayStatus;
}

export function startRelay(options: RelayOptions): Relay {
  return new JournalRelay(options);
}

class JournalRelay implements Relay {
  readonly #options: RelayOptions;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #keeper: StreamKeeper;
  readonly #role: string;
  readonly #done: Promise<unknown>;
  readonly #past = { published: 0, duplicates: 0, failures: 0 };
  #state: RelayStatus["state"] = "disconnected";
  #delivery: Delivery | undefined;
  readonly #blockedBy = new Set<string>();
  #lookingAfterStream = false;
  /** Said once until it works again. */
  #storeFails = false;
  #disposed: Promise<void> | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ part: "relay" });
    this.#keeper = new StreamKeeper(this.#logger);
    this.#role = `relay:${options.target}`;
    this.#done = Promise.all([this.#run(), this.#attend()]);
  }

  status(): RelayStatus {
    const { journal } = this.#options;
    const cursor = this.#cursor();
    const counts = this.#delivery?.counts;
    const error = this.#state === "no_stream" ? this.#keeper.trouble : undefined;
    return {
      state: this.#state,
      ...(error !== undefined && { error }),
      cursor,
      behind: Math.max(0, journal.newest() - Math.max(cursor, journal.oldest() - 1)),
      in_flight: this.#delivery?.inFlight ?? 0,
      blocked: this.#delivery?.blocked() ?? [],
      published: this.#past.published + (counts?.published ?? 0),
      duplicates: this.#past.duplicates + (counts?.duplicates ?? 0),
      failures: this.#past.failures + (counts?.failures ?? 0),
    };
  }

  #cursor(): number {
    return this.#delivery?.cursor ?? this.#options.journal.relayCursor(this.#options.target).cursor;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#drain();
    return this.#disposed;
  }

  async #drain(): Promise<void> {
    const down = this.#options.link.current()?.down;
    if (this.#delivery && down) {
      const limit = AbortSignal.any([down, this.#stop.signal]);
      await Promise.race([
        this.#delivery.passed(this.#options.journal.newest()),
        pause(this.#options.drainMs ?? 2_000, limit),
      ]);
    }
    this.#stop.abort();
    await this.#done;
    this.#state = "stopped";
  }

  /** Session after session; the role is held only by who is connected, so that it goes to who can work. */
  async #run(): Promise<void> {
    const stop = this.#stop.signal;
    while (!stop.aborted) {
      this.#state = "disconnected";
      const session = await this.#options.link.up(stop);
      if (session === undefined || stop.aborted) return;
      const over = AbortSignal.any([stop, session.down]);
      try {
        while (!over.aborted) {
          this.#state = "standby";
          const askedAt = performance.now();
          if (await this.#hold()) await this.#serve(session, askedAt, over);
          else await pause(renewEveryMs, over);
        }
      } catch (error) {
        this.#logger.error({ err: error }, "the relay failed; it starts again");
        await pause(renewEveryMs, stop);
      }
      // A session that is over only for the relay is not taken up again at once.
      if (!session.down.aborted) await pause(100, over);
    }
  }

  /** Whatever is dropped unsent is told as lost as long as this target is configured, also while nothing can be sent to it. */
  async #attend(): Promise<void> {
    const { journal, target, attendEveryMs = 3_600_000 } = this.#options;
    while (!this.#stop.signal.aborted) {
      let next = attendEveryMs;
      try {
        await journal.setRelayCursor(target, this.#cursor());
      } catch (error) {
        this.#logger.debug({ err: error }, "the journal cannot be told of the relay");
        next = attendAgainMs;
      }
      await pause(next, this.#stop.signal);
    }
  }

  /**
   * One tenure of the role: as soon as there is a stream, what is in the journal goes there.
   * @param askedAt when the role was asked for: from then on, or from later, the others count its time
   */
  async #serve(session: NatsSession, askedAt: number, over: AbortSignal): Promise<void> {
    const lost = new AbortController();
    let heldAt = askedAt;
    const renew = setInterval(() => {
      const asked = performance.now();
      this.#hold().then((held) => {
        if (held) heldAt = asked;
        else lost.abort();
      });
    }, renewEveryMs).unref();
    const mayPublish = () => {
      if (performance.now() - heldAt < staleMs) return true;
      // This process stood still for so long that another may have taken over.
      lost.abort();
      return false;
    };
    const tenure = AbortSignal.any([over, lost.signal]);
    this.#state = "no_stream";
    try {
      const ready = await this.#keeper.ready({ nc: session.nc, down: tenure });
      if (ready) await this.#relay(session, mayPublish, tenure);
    } finally {
      clearInterval(renew);
      if (!lost.signal.aborted) await this.#options.roles?.release(this.#role);
    }
  }

  async #relay(session: NatsSession, mayPublish: DeliveryOptions["mayPublish"], over: AbortSignal): Promise<void> {
    const { journal, target, flushed, readAhead } = this.#options;
    const { jetstream } = await import("@nats-io/jetstream");
    const { headers } = await import("@nats-io/transport-node");
    const delivery = new Delivery({
      client: jetstream(session.nc, { timeout: publishTimeoutMs }),
      makeHeaders: () => headers(),
      journal,
      target,
      session,
      flushed,
      mayPublish,
      ...(readAhead && { readAhead }),
      onBlocked: (reason) => this.#blocked(reason),
      onNoStream: () => this.#lookAfterStream(session),
    });
    this.#delivery = delivery;
    this.#state = "relaying";
    this.#logger.info({ cursor: delivery.cursor, newest: journal.newest() }, "relaying events to NATS");
    try {
      await delivery.run(over);
    } finally {
      this.#delivery = undefined;
      for (const count of ["published", "duplicates", "failures"] as const) this.#past[count] += delivery.counts[count];
    }
  }

  async #hold(): Promise<boolean> {
    try {
      const held = (await this.#options.roles?.hold(this.#role, staleMs)) ?? true;
      this.#storeFails = false;
      return held;
    } catch (err) {
      this.#logger[this.#storeFails ? "debug" : "warn"]({ err }, "the relay's role cannot be renewed; trying on");
      this.#storeFails = true;
      return false;
    }
  }

  /** Each reason is said once until nothing blocks any more. */
  #blocked(reason?: string): void {
    if (reason === undefined) {
      this.#blockedBy.clear();
      this.#logger.info("events are relayed again");
    } else if (!this.#blockedBy.has(reason) && this.#blockedBy.size < 20) {
      this.#blockedBy.add(reason);
      this.#logger.warn(`some events are not taken by NATS: ${reason}; trying on`);
    }
  }

  /** A stream that was deleted under way is made again; one look at a time. */
  #lookAfterStream(session: NatsSession): void {
    if (this.#lookingAfterStream) return;
    this.#lookingAfterStream = true;
    this.#keeper
      .ensure(session)
      .catch(() => {})
      .finally(() => {
        this.#lookingAfterStream = false;
      });
  }
}
