import type { Journal } from "../sandbox/store/types.ts";

const everyMs = 100;
const everyEntries = 1_000;

/** The relay's cursor in the store, written behind: often enough that little is sent twice, seldom enough to cost nothing. */
export class Position {
  readonly #journal: Pick<Journal, "setRelayCursor">;
  readonly #target: string;
  readonly #onError: (error: unknown) => void;
  #reached: number;
  #written: number;
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(journal: Journal, target: string, onError: (error: unknown) => void) {
    this.#journal = journal;
    this.#target = target;
    this.#onError = onError;
    this.#reached = journal.relayCursor(target).cursor;
    this.#written = this.#reached;
  }

  get reached(): number {
    return this.#reached;
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
