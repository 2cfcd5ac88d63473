import { setMaxListeners } from "node:events";
import type { JetStreamClient } from "@nats-io/jetstream";
import type { MsgHdrs } from "@nats-io/transport-node";
import { quoted } from "../errors.ts";
import type { JournalEntry } from "../sandbox/events.ts";
import type { Journal } from "../sandbox/store/types.ts";
import type { NatsSession } from "./connection.ts";
import { type EventMessage, maxEventBytes, toMessage } from "./envelope.ts";
import { lastSequence } from "./stream.ts";
import { sandboxSubject } from "./subject.ts";
import { backoff, pause, unless } from "./wait.ts";
import { type Slot, Window } from "./window.ts";

const windowLimits = { maxEntries: 10_000, maxBytes: 16 * 2 ** 20 };
const chunk = 64;
const headerRoom = 1_024;
const maxInFlight = 256;
const persistEveryMs = 100;
const persistEveryEntries = 1_000;

export interface DeliveryOptions {
  client: JetStreamClient;
  makeHeaders: () => MsgHdrs;
  journal: Journal;
  target: string;
  session: NatsSession;
  flushed: () => Promise<void>;
  /** Wall clock, as in the entries' times. */
  now: () => number;
  /** False when this process may no longer relay, as after a long halt. */
  mayPublish: () => boolean;
  duplicateWindowMs: number;
  /** Told with the reason once when something blocks, and without once nothing does any more. */
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

interface Item {
  slot: Slot;
  entry: Pick<JournalEntry, "sandbox_id" | "host" | "tenant" | "sequence" | "cursor">;
  at: number;
  message: EventMessage;
  headers: MsgHdrs;
  attempts: number;
}

/** The entries of one sandbox, one under way at a time. */
interface Lane {
  queue: Item[];
  error?: string;
}

/** Relays from the persisted cursor on, for as long as one session and one tenure of the role last. */
export class Delivery {
  readonly counts: Counts = { published: 0, duplicates: 0, failures: 0 };
  readonly #options: DeliveryOptions;
  readonly #end = new AbortController();
  readonly #window: Window;
  readonly #lanes = new Map<string, Lane>();
  readonly #ready: Lane[] = [];
  /** Last sequence in the stream of sandboxes that were looked up. */
  readonly #inStream = new Map<string, number>();
  /** What came later cannot have been sent by a predecessor. */
  readonly #inherited: number;
  readonly #caughtUp = new Set<() => void>();
  #inFlight = 0;
  #readTo: number;
  #flushedTo = 0;
  #filling: Promise<void> | undefined;
  #fillAgain = false;
  #persisted: number;
  #persisting: Promise<void> | undefined;
  #persistTimer: NodeJS.Timeout | undefined;
  #blocked = 0;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { cursor } = options.journal.relayCursor(options.target);
    this.#window = new Window(cursor, windowLimits);
    this.#readTo = cursor;
    this.#persisted = cursor;
    this.#inherited = options.journal.newest();
    setMaxListeners(0, this.#end.signal);
  }

  get cursor(): number {
    return this.#window.floor;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Sandboxes whose next event the server refuses, and why. */
  blocked(): { sandbox_id: string; error: string }[] {
    return [...this.#lanes].flatMap(([sandbox_id, { error }]) => (error === undefined ? [] : [{ sandbox_id, error }]));
  }

  /** Relays until the signal aborts; then what was acknowledged is persisted. */
  async run(until: AbortSignal): Promise<void> {
    const unsubscribe = this.#options.journal.onAppend(() => this.#fill());
    try {
      this.#fill();
      if (!until.aborted)
        await new Promise<void>((resolve) => until.addEventListener("abort", () => resolve(), { once: true }));
    } finally {
      unsubscribe();
      this.#end.abort();
      clearTimeout(this.#persistTimer);
      await this.#filling;
      await this.#persist();
    }
  }

  /** Resolves once everything up to the cursor is acknowledged. */
  passed(cursor: number): Promise<void> {
    this.#fill();
    return new Promise((resolve) => {
      const check = () => {
        if (this.#window.floor < cursor) return;
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
        this.#options.onBlocked(`the journal cannot be read: ${quoted(String(error))}`);
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
      while (this.#readTo < this.#flushedTo && this.#window.hasRoom && !this.#end.signal.aborted) {
        const entries = journal.after(this.#readTo, { limit: chunk });
        for (const entry of entries) if (entry.cursor <= this.#flushedTo) this.#enter(entry);
        const last = entries.at(-1);
        this.#readTo = last === undefined ? this.#flushedTo : Math.min(last.cursor, this.#flushedTo);
        if (last === undefined) this.#passedBy(this.#flushedTo);
        this.#publish();
        // A long backlog leaves the process to its tool calls in between.
        if (entries.length === chunk) await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  #enter(entry: JournalEntry): void {
    const { session, makeHeaders } = this.#options;
    const message = toMessage(entry, Math.min(maxEventBytes, (session.nc.info?.max_payload ?? Infinity) - headerRoom));
    const headers = makeHeaders();
    for (const [name, value] of Object.entries(message.headers)) headers.set(name, value);
    const { sandbox_id, host, tenant, sequence, cursor } = entry;
    const item: Item = {
      slot: this.#window.enter(cursor, message.payload.length),
      entry: { sandbox_id, host, tenant, sequence, cursor },
      at: Date.parse(entry.time),
      message,
      headers,
      attempts: 0,
    };
    const lane = this.#lanes.get(sandbox_id);
    if (lane) lane.queue.push(item);
    else {
      const opened: Lane = { queue: [item] };
      this.#lanes.set(sandbox_id, opened);
      this.#ready.push(opened);
    }
  }

  /** Puts as many lanes to work as may be. */
  #publish(): void {
    while (this.#inFlight < maxInFlight && !this.#end.signal.aborted && this.#options.mayPublish()) {
      const lane = this.#ready.shift();
      const item = lane?.queue[0];
      if (lane === undefined || item === undefined) return;
      this.#inFlight += 1;
      this.#deliver(item)
        .then(
          () => this.#delivered(lane, item),
          (error: unknown) => this.#failed(lane, item, error),
        )
        .finally(() => {
          this.#inFlight -= 1;
          this.#publish();
        });
    }
  }

  async #deliver(item: Item): Promise<void> {
    if (await this.#isInStream(item)) {
      this.counts.duplicates += 1;
      return;
    }
    const { subject, payload, id } = item.message;
    const ack = await this.#options.client.publish(subject, payload, { msgID: id, headers: item.headers });
    if (ack.duplicate) this.counts.duplicates += 1;
    else this.counts.published += 1;
  }

  /**
   * The stream knows a message id for the duplicate window only. What may have been sent before, by this process or by one whose
   * work it took over, longer ago than that, is told by the last sequence the stream has of its sandbox. An event cannot have
   * been sent before it happened, so that most never need the look.
   */
  async #isInStream({ entry, at, attempts }: Item): Promise<boolean> {
    const { now, duplicateWindowMs, session } = this.#options;
    const maybeSent = attempts > 0 || entry.cursor <= this.#inherited;
    if (!maybeSent || now() - at < duplicateWindowMs * 0.8) return false;
    const { sandbox_id, sequence } = entry;
    let last = this.#inStream.get(sandbox_id);
    if (last === undefined) {
      last = (await unless(lastSequence(session, sandboxSubject(entry)), session.down).catch(ifForbidden)) ?? 0;
      if (session.down.aborted) throw new SessionOver();
      if (this.#inStream.size > windowLimits.maxEntries) this.#inStream.clear();
      this.#inStream.set(sandbox_id, last);
    }
    return sequence <= last;
  }

  #delivered(lane: Lane, item: Item): void {
    lane.queue.shift();
    this.#unblock(lane);
    this.#window.ack(item.slot);
    if (lane.queue.length > 0) this.#ready.push(lane);
    else this.#lanes.delete(item.entry.sandbox_id);
    this.#advanced();
    if (this.#readTo < this.#flushedTo) this.#fill();
  }

  /** The same id again after a while; only this lane waits. */
  async #failed(lane: Lane, item: Item, error: unknown): Promise<void> {
    const { session, onNoStream, onBlocked } = this.#options;
    if (error instanceof SessionOver || session.down.aborted || this.#end.signal.aborted) return;
    this.counts.failures += 1;
    item.attempts += 1;
    this.#inStream.delete(item.entry.sandbox_id);
    const words = quoted(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    if (lane.error === undefined) this.#blocked += 1;
    lane.error = words;
    onBlocked(words);
    if (error instanceof Error && error.name === "JetStreamNotEnabled") onNoStream();
    // A silent server still has the message in its queue: the next goes out once it speaks again, so that no heap grows.
    if (error instanceof Error && error.name === "TimeoutError") {
      await unless(session.nc.flush(), session.down).catch(() => {});
    }
    await pause(backoff(item.attempts - 1, 100, 5_000), this.#end.signal);
    if (this.#end.signal.aborted) return;
    this.#ready.push(lane);
    this.#publish();
  }

  #unblock(lane: Lane): void {
    if (lane.error === undefined) return;
    delete lane.error;
    this.#blocked -= 1;
    if (this.#blocked === 0) this.#options.onBlocked();
  }

  #passedBy(cursor: number): void {
    this.#window.skipTo(cursor);
    this.#advanced();
  }

  #advanced(): void {
    if (this.#end.signal.aborted) return;
    for (const check of [...this.#caughtUp]) check();
    if (this.#window.floor - this.#persisted >= persistEveryEntries) void this.#persist();
    else this.#persistTimer ??= setTimeout(() => void this.#persist(), persistEveryMs).unref();
  }

  /** One write at a time; the last one sees the newest floor. */
  async #persist(): Promise<void> {
    clearTimeout(this.#persistTimer);
    this.#persistTimer = undefined;
    await this.#persisting;
    const { floor } = this.#window;
    if (floor <= this.#persisted || this.#persisting) return this.#persisting;
    const { journal, target, onBlocked } = this.#options;
    this.#persisting = journal
      .setRelayCursor(target, floor)
      .then(
        () => {
          this.#persisted = floor;
        },
        (error: unknown) => onBlocked(`the relay's cursor cannot be written: ${quoted(String(error))}`),
      )
      .finally(() => {
        this.#persisting = undefined;
      });
    return this.#persisting;
  }
}

class SessionOver extends Error {}

/** A login that may publish but not read the stream: at least once is what it gets. */
function ifForbidden(error: unknown): undefined {
  if (error instanceof Error && error.cause instanceof Error && error.cause.name === "PermissionViolationError")
    return undefined;
  throw error;
}
