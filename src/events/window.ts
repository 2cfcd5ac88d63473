/** One entry between being read and being passed. */
export interface Slot {
  readonly cursor: number;
  readonly bytes: number;
  acked: boolean;
}

/**
 * The stretch of the journal under way: entries enter in the journal's order, are acknowledged in any, and the floor, which is
 * what may be persisted, follows behind without a gap.
 */
export class Window {
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  #slots: Slot[] = [];
  /** Slots before this one are passed; they are dropped in bulk. */
  #first = 0;
  #bytes = 0;
  #floor: number;

  constructor(floor: number, limits: { maxEntries: number; maxBytes: number }) {
    this.#floor = floor;
    this.#maxEntries = limits.maxEntries;
    this.#maxBytes = limits.maxBytes;
  }

  /** Everything up to here is acknowledged. */
  get floor(): number {
    return this.#floor;
  }

  /** Entries read and not passed yet, acknowledged ones above a gap included. */
  get size(): number {
    return this.#slots.length - this.#first;
  }

  /** Bytes waiting for an acknowledgement. */
  get bytes(): number {
    return this.#bytes;
  }

  get hasRoom(): boolean {
    return this.size < this.#maxEntries && this.#bytes < this.#maxBytes;
  }

  enter(cursor: number, bytes: number): Slot {
    const slot: Slot = { cursor, bytes, acked: false };
    this.#slots.push(slot);
    this.#bytes += bytes;
    return slot;
  }

  ack(slot: Slot): void {
    if (slot.acked) return;
    slot.acked = true;
    this.#bytes -= slot.bytes;
    for (let next = this.#slots[this.#first]; next?.acked; next = this.#slots[this.#first]) {
      this.#floor = next.cursor;
      this.#first += 1;
    }
    if (this.#first > 1024 && this.#first * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#first);
      this.#first = 0;
    }
  }

  /** The journal has nothing more up to `cursor`: what lay there was dropped. */
  skipTo(cursor: number): void {
    if (this.size === 0 && cursor > this.#floor) this.#floor = cursor;
  }
}
