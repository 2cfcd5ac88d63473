import { setMaxListeners } from "node:events";
import type { JetStreamClient } from "@nats-io/jetstream";
import type { MsgHdrs } from "@nats-io/transport-node";
import { quoted } from "../errors.ts";
import type { JournalEntry } from "../sandbox/events.ts";
import type { Journal } from "../sandbox/store/types.ts";
import { pause } from "../sandbox/wait.ts";
import type { NatsSession } from "./connection.ts";
import { maxEventBytes, toMessage } from "./envelope.ts";
import { StreamHistory } from "./history.ts";
import { type Item, type Lane, Lanes, type ReadAhead } from "./lanes.ts";
import { Position } from "./position.ts";
import { MovedOnError, publish } from "./publish.ts";
import { backoff, unless } from "./wait.ts";

const chunk = 64;
const headerRoom = 1_024;
const maxInFlight = 256;
/** After so many refusals an event goes out without a number: whoever keeps publishing on its subject must not keep it out of the stream. */
const mostFenced = 3;

export interface DeliveryOptions {
  client: JetStreamClient;
  makeHeaders: () => MsgHdrs;
  journal: Journal;
  target: string;
  session: NatsSession;
  flushed: () => Promise<void>;
  /** False when this process may no longer relay, as after a long halt. */
  mayPublish: () => boolean;
  readAhead?: ReadAhead;
  /** Told with the reason when something blocks, and without once nothing does any more. */
  onBlocked: (reason?: string) => void;
  /** Told when no stream took a message: it may be gone. */
  onNoStream: () => void;
}

export interface Counts {
  published: number;
  /** Known to the stream already, by message id or by sequence. */
  duplicates: number;
  failures: number;
}

/** Relays from the persisted cursor on, for as long as one session and one tenure of the role last. */
export class Delivery {
  readonly counts: Counts = { published: 0, duplicates: 0, failures: 0 };
  readonly #options: DeliveryOptions;
  readonly #end = new AbortController();
  readonly #position: Position;
  readonly #history: StreamHistory;
  readonly #lanes: Lanes;
  readonly #caughtUp = new Set<() => void>();
  #inFlight = 0;
  #flushedTo = 0;
  #filling: Promise<void> | undefined;
  #fillAgain = false;

  constructor(options: DeliveryOptions) {
    const { journal, target, onBlocked } = options;
    this.#options = options;
    this.#position = new Position(journal, target, (error) =>
      onBlocked(`the cursor cannot be written: ${words(error)}`),
    );
    const reread = (sandboxId: string, after: number, upTo: number, limit: number) => {
      const page = journal.page(after, { limit, sandboxId });
      const items = page.entries.filter(({ cursor }) => cursor <= upTo).map((entry) => this.#item(entry));
      return { items, upTo: page.upTo };
    };
    this.#lanes = new Lanes(this.#position.reached, reread, options.readAhead);
    this.#history = new StreamHistory(options.session, journal, this.#position.inherited);
    setMaxListeners(0, this.#end.signal);
  }

  get cursor(): number {
    return this.#position.reached;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Sandboxes whose next event the server refuses, and why. */
  blocked(): { sandbox_id: string; error: string }[] {
    return this.#lanes.blocked().map(({ sandboxId, error = "" }) => ({ sandbox_id: sandboxId, error }));
  }

  /** Relays until the signal aborts; then what was acknowledged is persisted. */
  async run(until: AbortSignal): Promise<void> {
    const unsubscribe = this.#options.journal.onAppend(() => this.#fill());
    try {
      this.#fill();
      if (!until.aborted) await new Promise((resolve) => until.addEventListener("abort", resolve, { once: true }));
    } finally {
      unsubscribe();
      this.#end.abort();
      await this.#filling;
      await this.#position.close();
    }
  }

  /** Resolves once everything up to the cursor is acknowledged. */
  passed(cursor: number): Promise<void> {
    this.#fill();
    return new Promise((resolve) => {
      const check = () => {
        if (this.cursor < cursor) return;
        this.#caughtUp.delete(check);
        resolve();
      };
      this.#caughtUp.add(check);
      check();
    });
  }

  /** One fill at a time; calls while it runs make it look once more. */
  #fill(): void {
    this.#fillAgain = true;
    this.#filling ??= this.#fillWindow()
      .catch(async (error: unknown) => {
        this.#options.onBlocked(`the journal cannot be used: ${words(error)}`);
        this.#fillAgain = true;
        await pause(1_000, this.#end.signal);
      })
      .finally(() => {
        this.#filling = undefined;
        if (this.#fillAgain && !this.#end.signal.aborted) this.#fill();
      });
  }

  async #fillWindow(): Promise<void> {
    const { journal, flushed } = this.#options;
    while (this.#fillAgain && !this.#end.signal.aborted) {
      this.#fillAgain = false;
      const newest = journal.newest();
      if (newest > this.#flushedTo) {
        await flushed();
        this.#flushedTo = newest;
      }
      const lanes = this.#lanes;
      if (lanes.hungry) {
        lanes.refill();
        this.#advance();
        this.#publish();
      }
      while (lanes.readTo < this.#flushedTo && !this.#end.signal.aborted && lanes.makeRoom()) {
        const { entries, upTo } = journal.page(lanes.readTo, { limit: chunk });
        // Hidden for a moment, not dropped: the journal calls again.
        if (upTo === lanes.readTo) break;
        const readTo = Math.min(upTo, this.#flushedTo);
        await this.#position.maySend(readTo);
        for (const entry of entries)
          if (entry.cursor <= readTo && lanes.takes(entry.sandbox_id)) lanes.enter(this.#item(entry));
        // Where there is none, it was dropped.
        lanes.read(readTo);
        this.#advance();
        this.#publish();
        // A long backlog leaves the process to its tool calls in between.
        if (entries.length === chunk) await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  #item(entry: JournalEntry): Item {
    const { session, makeHeaders } = this.#options;
    const message = toMessage(entry, Math.min(maxEventBytes, (session.nc.info?.max_payload ?? Infinity) - headerRoom));
    const headers = makeHeaders();
    for (const [name, value] of Object.entries(message.headers)) headers.set(name, value);
    const { sandbox_id, host, tenant, type, sequence, cursor } = entry;
    return { entry: { sandbox_id, host, tenant, type, sequence, cursor }, message, headers, attempts: 0 };
  }

  /** Whether this process may still send; what it may not stays where it is, for the next tenure. */
  get #goesOn(): boolean {
    return !this.#end.signal.aborted && !this.#options.session.down.aborted && this.#options.mayPublish();
  }

  /** Puts as many lanes to work as may be. */
  #publish(): void {
    while (this.#inFlight < maxInFlight && this.#goesOn) {
      const lane = this.#lanes.ready.shift();
      const item = lane?.queue[0]?.item;
      if (lane === undefined || item === undefined) return;
      this.#inFlight += 1;
      this.#deliver(item)
        .then(
          (outcome) => outcome && this.#delivered(lane, outcome),
          (error: unknown) => this.#failed(lane, item, error),
        )
        .finally(() => {
          this.#inFlight -= 1;
          this.#publish();
        });
    }
  }

  /** What became of it once the stream has it; undefined when it was not sent, since another may be sending by now. */
  async #deliver({ entry, ...item }: Item): Promise<"published" | "duplicates" | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      const { has, last } = await this.#history.find(entry);
      if (has) return "duplicates";
      if (!this.#goesOn) return undefined;
      try {
        const { outcome, message } = await publish(this.#options.client, item, attempt < mostFenced ? last : undefined);
        this.#history.took(entry, message);
        return outcome;
      } catch (error) {
        if (!(error instanceof MovedOnError)) throw error;
        this.#history.doubt(entry);
      }
    }
  }

  #delivered(lane: Lane, outcome: "published" | "duplicates"): void {
    this.counts[outcome] += 1;
    if (this.#end.signal.aborted) return;
    const wasBlocked = lane.error !== undefined;
    this.#lanes.delivered(lane);
    if (wasBlocked && this.#lanes.blocked().length === 0) this.#options.onBlocked();
    this.#advance();
    if (this.#lanes.hungry || this.#lanes.readTo < this.#flushedTo) this.#fill();
  }

  /** The same id again after a while. The lane alone waits, and gives its place in flight to another. */
  #failed(lane: Lane, item: Item, error: unknown): void {
    const { session, onNoStream, onBlocked } = this.#options;
    if (session.down.aborted || this.#end.signal.aborted) return;
    this.counts.failures += 1;
    item.attempts += 1;
    this.#history.doubt(item.entry);
    lane.error = words(error);
    onBlocked(lane.error);
    const kind = error instanceof Error ? error.name : "";
    // A server that is silent, or has no stream, is so for all.
    lane.alone = kind !== "TimeoutError" && kind !== "JetStreamNotEnabled";
    if (lane.alone && this.#lanes.readTo < this.#flushedTo) this.#fill();
    if (kind === "JetStreamNotEnabled") onNoStream();
    // A silent server still has the message in its queue: the next goes out once it speaks again, so that no heap grows.
    const speaks = kind === "TimeoutError" ? unless(session.nc.flush(), session.down).catch(() => {}) : undefined;
    void Promise.resolve(speaks)
      .then(() => pause(backoff(item.attempts - 1, 100, 5_000), this.#end.signal))
      .then(() => {
        this.#lanes.ready.push(lane);
        this.#publish();
      });
  }

  #advance(): void {
    this.#position.moveTo(this.#lanes.floor);
    for (const check of [...this.#caughtUp]) check();
  }
}

const words = (error: unknown): string =>
  quoted(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
