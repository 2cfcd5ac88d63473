import { openSync, readSync, writeSync } from "node:fs";
import path from "node:path";
import type { RootDatabase } from "lmdb";
import { SandboxError } from "../../errors.ts";

/** Start of lock.mdb, `MDB_txbody` in LMDB's mdb.c: magic (u32), format (u32), number of the newest commit (u64). */
const magic = 0xbeefc0de;
const newestAt = 8;

/** The transaction began from a state older than the newest commit. It has to end without a write and be tried again. */
export class TurnedBack extends Error {}

/**
 * Keeps each write transaction behind the newest commit. A process that opens an environment sets the number of the newest
 * commit in lock.mdb from a meta page it read a moment before, without the write lock (`mdb_env_open2` of the LMDB in lmdb
 * 3.5.6). The next transaction would begin before what others committed in that moment, and undo it. Until that transaction,
 * which the one that opens makes at once, reads may show one commit less than before. They cannot put the number right, as they
 * never wait for the write lock: `Journal.page` and the journal's bell live with it.
 */
export class CommitOrder {
  readonly #root: RootDatabase<string, string> & Informed;
  readonly #lockFile: string;

  /** @param folder the environment's */
  constructor(root: RootDatabase<string, string>, folder: string) {
    if (!isInformed(root)) throw new SandboxError("INTERNAL", "This version of lmdb does not tell its newest commit.");
    this.#root = root;
    this.#lockFile = path.join(folder, "lock.mdb");
  }

  /**
   * For the beginning of each write transaction: its process is the only one that commits, so here the number can be put
   * right.
   * @returns the last page that the newest commit uses
   * @throws TurnedBack when it had to be
   */
  check(): number {
    const base = this.#root.getWriteTxnId() - 1;
    const { lastTxnId: newest, lastPageNumber } = this.#root.env.info();
    if (base >= newest) return lastPageNumber;
    this.#setNewest(newest);
    throw new TurnedBack(`The transaction began after commit ${base}; the newest is ${newest}.`);
  }

  #setNewest(newest: number): void {
    // Never closed: closing any descriptor of this file would take away the locks that LMDB holds on it for this process.
    const lock = openSync(this.#lockFile, "r+");
    const found = Buffer.alloc(4);
    readSync(lock, found, 0, found.length, 0);
    if (found.readUInt32LE() !== magic) {
      throw new SandboxError("INTERNAL", `${this.#lockFile} is not laid out as lmdb 3.5.6 does it.`);
    }
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(newest));
    writeSync(lock, number, 0, number.length, newestAt);
  }
}

interface Informed {
  env: { info(): { lastTxnId: number; lastPageNumber: number } };
}

/** `env` is in lmdb's code and missing in its types. */
function isInformed<T extends object>(root: T): root is T & Informed {
  return "env" in root && typeof root.env === "object" && root.env !== null && "info" in root.env;
}
