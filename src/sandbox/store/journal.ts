import type { JournalEntry } from "../events.ts";
import type { Database } from "./database.ts";
import type { Doorbell } from "./doorbell.ts";
import { digits, endOf, part } from "./keys.ts";
import type { Tables } from "./tables.ts";
import type { Journal, JournalPage } from "./types.ts";

/** Reads the journal and keeps the positions of its relays. */
export class StoreJournal implements Journal {
  readonly #database: Database;
  readonly #tables: Tables;
  readonly #doorbell: Doorbell;
  readonly #clock: () => number;

  constructor(database: Database, tables: Tables, doorbell: Doorbell, clock: () => number) {
    this.#database = database;
    this.#tables = tables;
    this.#doorbell = doorbell;
    this.#clock = clock;
  }

  newest(): number {
    const newest = this.#tables.totals.get("journal")?.newest ?? 0;
    this.#doorbell.shown(newest);
    return newest;
  }

  oldest(): number {
    const [first] = this.#tables.journal.keys({ limit: 1 });
    return first === undefined ? this.newest() + 1 : Number(first);
  }

  after(cursor: number, options: { limit: number; sandboxId?: string }): JournalEntry[] {
    const { limit, sandboxId } = options;
    const from = digits(cursor + 1);
    if (sandboxId === undefined) return this.#tables.journal.values({ start: from, limit });
    const prefix = part(sandboxId);
    return this.#entries(
      this.#tables.journalBySandbox.values({ start: `${prefix}/${from}`, end: endOf(prefix), limit }),
    );
  }

  page(cursor: number, options: { limit: number; sandboxId?: string }): JournalPage {
    const entries = this.after(cursor, options);
    // Within one turn of the event loop both are read from one snapshot.
    const newest = this.newest();
    const upTo = entries.length < options.limit ? newest : (entries.at(-1)?.cursor ?? cursor);
    return { entries, upTo: Math.max(cursor, upTo) };
  }

  latest(options: { limit: number; sandboxId?: string }): JournalEntry[] {
    const { limit, sandboxId } = options;
    if (sandboxId === undefined) return this.#tables.journal.values({ reverse: true, limit }).reverse();
    const prefix = part(sandboxId);
    const range = { start: `${prefix}/`, end: endOf(prefix), reverse: true, limit };
    return this.#entries(this.#tables.journalBySandbox.values(range)).reverse();
  }

  onAppend(listener: () => void): () => void {
    this.#database.assertOpen();
    return this.#doorbell.listen(listener);
  }

  relayCursor(target: string): { cursor: number; sent_to?: number; at?: string } {
    return this.#tables.relays.get(part(target)) ?? { cursor: 0 };
  }

  /** Only forward: a relay that was stopped and wakes late must not undo what its successor delivered. */
  async setRelayCursor(target: string, cursor: number, sentTo = 0): Promise<void> {
    await this.#database.transact(() => {
      const before = this.#tables.relays.get(part(target)) ?? { cursor: 0, sent_to: 0 };
      // Where an older version relayed, nobody knows until this one has sent something.
      const known = before.sent_to !== undefined || sentTo > 0;
      this.#tables.relays.put(part(target), {
        cursor: Math.max(cursor, before.cursor),
        ...(known && { sent_to: Math.max(sentTo, before.sent_to ?? 0) }),
        at: new Date(this.#clock()).toISOString(),
      });
    });
  }

  #entries(cursors: number[]): JournalEntry[] {
    return cursors.flatMap((cursor) => this.#tables.journal.get(digits(cursor)) ?? []);
  }
}
