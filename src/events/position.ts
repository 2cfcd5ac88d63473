import type { Journal } from "../sandbox/store/types.ts";

const everyMs = 100;
const everyEntries = 1_000;
const entriesAhead = 2_000;

/**
 * The relay's place in the store. What is acknowledged is written behind, often enough that little is looked for again, and what is
 * sent is written ahead: a successor knows that nobody has sent the rest.
 */
export class Position {
  readonly #journal: Pick<Journal, "setRelayCursor">;
  readonly #target: string;
  readonly #onError: (error: unknown) => void;
  /** What lies beyond was sent by no relay before this one. Were that not true, the stream would refuse it and be asked. */
  readonly inherited: number;
  #reached: number;
  #written: number;
  #sentTo: number;
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(journal: Journal, target: string, onError: (error: unknown) => void) {
    this.#journal = journal;
    this.#target = target;
    this.#onError = onError;
    const { cursor, sent_to, at } = journal.relayCursor(target);
    this.#reached = cursor;
    this.#written = cursor;
    this.#sentTo = sent_to ?? cursor;
    this.inherited = sent_to ?? (at === undefined ? 0 : journal.newest());
  }

  get reached(): number {
    return this.#reached;
  }

  /** Resolves once entries up to `cursor` may be sent. */
  async maySend(cursor: number): Promise<void> {
    if (cursor <= this.#sentTo) return;
    const sentTo = cursor + entriesAhead;
    await this.#journal.setRelayCursor(this.#target, this.#reached, sentTo);
    this.#sentTo = sentTo;
  }

  moveTo(cursor: number): void {
    if (this.#closed || cursor <= this.#reached) return;
    this.#reached = cursor;
    if (cursor - this.#written >= everyEntries) void this.#write();
    else this.#writeSoon();
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    await this.#write();
  }

  #writeSoon(): void {
    this.#timer ??= setTimeout(() => void this.#write(), everyMs).unref();
  }

  /** One write at a time; what is reached meanwhile is left to the next. */
  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const cursor = this.#reached;
    if (this.#writing || cursor <= this.#written) return this.#writing;
    this.#writing = this.#journal
      .setRelayCursor(this.#target, cursor)
      .then(() => {
        this.#written = cursor;
      }, this.#onError)
      .finally(() => {
        this.#writing = undefined;
        if (this.#reached > this.#written && !this.#closed) this.#writeSoon();
      });
    return this.#writing;
  }
}
