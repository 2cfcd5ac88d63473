import type { Database as LmdbDatabase } from "lmdb";

interface Range {
  /** Included. */
  start?: string;
  /** Excluded. */
  end?: string;
  reverse?: boolean;
  limit?: number;
}

/** Holds what a plan wrote until its end. */
export interface Kept {
  flush(): void;
  forget(): void;
}

/** Longer values are parsed each time they are read. */
const longestRemembered = 16 * 1024;

/** What a table asks of its environment. */
interface Environment {
  assertOpen(): void;
  assertWriting(): void;
  written(table: Kept): void;
  wrote(text: string): void;
}

/**
 * One named table of JSON values. The only place where stored text becomes typed values again. What a plan writes is kept back until
 * its end, so that a record which is read and written several times in it, as one exec does, costs one of each.
 */
export class Table<V> implements Kept {
  readonly #environment: Environment;
  readonly #db: LmdbDatabase<string, string>;
  /** Written by the plan that runs; undefined: removed. */
  readonly #pending = new Map<string, V | undefined>();
  /** By key, the text that was read last and what it means: good for as long as the same text is stored. */
  readonly #read = new Map<string, { text: string; value: V }>();

  readonly #mostRemembered: number;

  /** @param mostRemembered values that are not parsed again as long as they stay as they are */
  constructor(environment: Environment, db: LmdbDatabase<string, string>, mostRemembered: number) {
    this.#environment = environment;
    this.#db = db;
    this.#mostRemembered = mostRemembered;
  }

  /** The value; not to be changed, since others may have it, too. */
  get(key: string): V | undefined {
    if (this.#pending.has(key)) return this.#pending.get(key);
    const text = this.#text(key);
    if (text === undefined) return undefined;
    const known = this.#read.get(key);
    if (known?.text === text) return known.value;
    const value = this.#parse(text);
    if (this.#mostRemembered === 0 || text.length > longestRemembered) return value;
    if (this.#read.size >= this.#mostRemembered) this.#read.clear();
    this.#read.set(key, { text, value: Object.freeze(value) });
    return value;
  }

  /** The value with its stored size in bytes, as it was before the plan that runs. */
  sized(key: string): { value: V; bytes: number } | undefined {
    const text = this.#text(key);
    return text === undefined ? undefined : { value: this.#parse(text), bytes: Buffer.byteLength(text) };
  }

  #text(key: string): string | undefined {
    this.#environment.assertOpen();
    return this.#db.get(key);
  }

  #parse(text: string): V {
    // Only this class writes here, and what it is given is a V; who else can write the file is this user, who owns the store anyway.
    return JSON.parse(text) as V;
  }

  put(key: string, value: V): void {
    this.#keepBack(key, value);
  }

  remove(key: string): void {
    this.#keepBack(key, undefined);
  }

  /** Writes at once what nothing in the plan will write again. Returns the stored size in bytes. */
  append(key: string, value: V): number {
    this.#environment.assertWriting();
    return Buffer.byteLength(this.#put(key, value));
  }

  /** All at once rather than as an iterator: an iterator left half-way would pin a snapshot. */
  keys(range: Range): string[] {
    this.#environment.assertOpen();
    this.flush();
    const { start, end, reverse = false, limit } = range;
    // LMDB takes the first bound in reading order as included; backwards that would be `end`, so it is skipped by name.
    const options = reverse
      ? {
          ...(end === undefined ? {} : { start: end, exclusiveStart: true }),
          ...(start === undefined ? {} : { end: start, inclusiveEnd: true }),
        }
      : { ...(start === undefined ? {} : { start }), ...(end === undefined ? {} : { end }) };
    return [...this.#db.getKeys({ ...options, reverse, ...(limit === undefined ? {} : { limit }) })];
  }

  values(range: Range): V[] {
    return this.keys(range).flatMap((key) => this.get(key) ?? []);
  }

  /** Writes what was kept back. */
  flush(): void {
    for (const [key, value] of this.#pending) {
      if (value === undefined) this.#db.removeSync(key);
      else this.#put(key, value);
    }
    this.#pending.clear();
  }

  #put(key: string, value: V): string {
    const text = JSON.stringify(value);
    this.#environment.wrote(text);
    this.#db.putSync(key, text);
    return text;
  }

  /** The plan failed: what it wrote is as if it never was. */
  forget(): void {
    this.#pending.clear();
  }

  #keepBack(key: string, value: V | undefined): void {
    this.#environment.assertWriting();
    if (this.#pending.size === 0) this.#environment.written(this);
    this.#pending.set(key, value);
  }
}
