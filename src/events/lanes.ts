import type { MsgHdrs } from "@nats-io/transport-node";
import type { JournalEntry } from "../sandbox/events.ts";
import type { EventMessage } from "./envelope.ts";
import { type Slot, Window } from "./window.ts";

/** What is read of the journal ahead of what is acknowledged. */
export interface ReadAhead {
  maxEntries: number;
  maxBytes: number;
}

const usualReadAhead: ReadAhead = { maxEntries: 10_000, maxBytes: 16 * 2 ** 20 };
/** Beyond so many refused sandboxes the rest waits with them: what is remembered of each costs memory. */
const mostThinned = 1_000;
/** Read again at once for a thinned lane. */
const rereadEntries = 16;

export interface Item {
  entry: Pick<JournalEntry, "sandbox_id" | "host" | "tenant" | "type" | "sequence" | "cursor">;
  message: EventMessage;
  headers: MsgHdrs;
  attempts: number;
}

/** The entries of one sandbox, one under way at a time. */
export interface Lane {
  readonly sandboxId: string;
  readonly queue: { item: Item; slot?: Slot }[];
  /** Why the server does not take the first of them, until it does. */
  error?: string;
  /** The refusal is about this sandbox, so that the others' need not wait. */
  alone?: boolean;
  /** Set once the lane was thinned: what follows this cursor is read again from the journal when its turn comes. */
  behind?: number;
}

/** Makes items of a sandbox's entries after a cursor, up to another; `upTo` is how far they are all there are. */
type Reread = (sandboxId: string, after: number, upTo: number, limit: number) => { items: Item[]; upTo: number };

/**
 * What is read from the journal and not acknowledged, by sandbox. Memory is bounded, and the cursor that may be persisted cannot
 * pass an entry that is not taken; so that one refused sandbox does not keep the others' entries from being read, its lane is
 * thinned to the entry that is tried, and the rest of it read again later.
 */
export class Lanes {
  readonly #window: Window;
  readonly #lanes = new Map<string, Lane>();
  readonly #thinned = new Set<Lane>();
  /** Thinned lanes that have come to the end of what is in memory of them. */
  readonly #hungry = new Set<Lane>();
  readonly #reread: Reread;
  /** Lanes whose first entry may go out. */
  readonly ready: Lane[] = [];
  #readTo: number;

  constructor(from: number, reread: Reread, readAhead = usualReadAhead) {
    this.#window = new Window(from, readAhead);
    this.#readTo = from;
    this.#reread = reread;
  }

  /** The journal is read, though not delivered, up to here. */
  get readTo(): number {
    return this.#readTo;
  }

  /** Whether there is something to {@link refill}. */
  get hungry(): boolean {
    return this.#hungry.size > 0;
  }

  /** Everything up to here is acknowledged. */
  get floor(): number {
    let floor = this.#window.floor;
    for (const lane of this.#thinned) floor = Math.min(floor, heldAt(lane));
    return floor;
  }

  /** Lanes whose first entry the server refuses. */
  blocked(): Lane[] {
    return [...this.#lanes.values()].filter(({ error }) => error !== undefined);
  }

  /** Whether more may be read: as it is, or once refused lanes are thinned. */
  makeRoom(): boolean {
    if (this.#window.hasRoom) return true;
    for (const lane of this.#lanes.values()) {
      if (this.#thinned.size >= mostThinned) break;
      if (lane.alone && lane.behind === undefined) this.#thin(lane);
    }
    return this.#window.hasRoom;
  }

  /** Whether an entry is to be entered: those of a thinned lane are read again in their turn. */
  takes(sandboxId: string): boolean {
    return this.#lanes.get(sandboxId)?.behind === undefined;
  }

  enter(item: Item): void {
    const { sandbox_id, cursor } = item.entry;
    const slot = this.#window.enter(cursor, item.message.payload.length);
    const lane = this.#lanes.get(sandbox_id);
    if (lane) {
      lane.queue.push({ item, slot });
      return;
    }
    const opened: Lane = { sandboxId: sandbox_id, queue: [{ item, slot }] };
    this.#lanes.set(sandbox_id, opened);
    this.ready.push(opened);
  }

  /** All entries up to `cursor` were entered, or passed over. */
  read(cursor: number): void {
    this.#readTo = cursor;
    this.#window.skipTo(cursor);
  }

  /** The first entry of a lane is acknowledged: the next one's turn. */
  delivered(lane: Lane): void {
    const done = lane.queue.shift();
    if (done?.slot) this.#window.ack(done.slot);
    delete lane.error;
    delete lane.alone;
    if (lane.queue.length > 0) this.ready.push(lane);
    else if (lane.behind !== undefined) this.#hungry.add(lane);
    else this.#lanes.delete(lane.sandboxId);
    this.#window.skipTo(this.#readTo);
  }

  /** Reads again what thinned lanes go on with. A lane that the journal cannot show whole now stays hungry. */
  refill(): void {
    for (const lane of this.#hungry) {
      const { sandboxId, behind = 0 } = lane;
      const { items, upTo } = this.#reread(sandboxId, behind, this.#readTo, rereadEntries);
      for (const item of items) lane.queue.push({ item });
      lane.behind = items.at(-1)?.entry.cursor ?? behind;
      if (items.length > 0) this.ready.push(lane);
      else if (upTo < this.#readTo) continue;
      else {
        this.#lanes.delete(sandboxId);
        this.#thinned.delete(lane);
      }
      this.#hungry.delete(lane);
    }
  }

  #thin(lane: Lane): void {
    const [first, ...rest] = lane.queue;
    if (!first) return;
    lane.behind = first.item.entry.cursor;
    lane.queue.splice(1);
    this.#thinned.add(lane);
    for (const { slot } of [first, ...rest]) if (slot) this.#window.ack(slot);
    // Its place is held by the lane from now on.
    delete first.slot;
  }
}

/** Everything of the lane's sandbox up to here is acknowledged. */
const heldAt = ({ queue, behind = 0 }: Lane): number => (queue[0] ? queue[0].item.entry.cursor - 1 : behind);
