import path from "node:path";
import { SandboxError } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import { dropAged, dropOverflow, forgetRelays } from "./bound.ts";
import type { Database } from "./database.ts";
import { requireRoom } from "./disk.ts";
import { Doorbell } from "./doorbell.ts";
import { StoreJournal } from "./journal.ts";
import { monotonicIds, type Numbering } from "./numbering.ts";
import { PlanTx } from "./plan-tx.ts";
import { StoreProcesses, thisProcess } from "./processes.ts";
import { RecordReads } from "./reads.ts";
import { Records } from "./records.ts";
import { StoreRoles } from "./roles.ts";
import type { Tables } from "./tables.ts";
import type { ExecRecord, Journal, ProcessRecord, ProcessTable, Roles, SandboxRecord, Store, Tx } from "./types.ts";

const dayMs = 86_400_000;
/** Sandboxes removed in one transaction, so that pruning never holds the lock for long. */
const pruneBatch = 200;

export interface LmdbStoreOptions {
  installId: string;
  dataDir: string;
  host: string;
  tenant: string;
  journalMaxBytes: number;
  endedDays: number;
  keptExecs: number;
  clock: () => number;
  logger?: Logger;
}

/** State and journal in one LMDB environment. */
export class LmdbStore extends RecordReads implements Store {
  readonly installId: string;
  readonly processId: string;
  readonly journal: Journal;
  readonly processes: ProcessTable;
  readonly roles: Roles;

  readonly #database: Database;
  readonly #options: LmdbStoreOptions;
  readonly #self: ProcessRecord;
  readonly #records: Records;
  readonly #numbering: Numbering;
  readonly #processes: StoreProcesses;
  readonly #roles: StoreRoles;
  readonly #doorbell: Doorbell;
  readonly #tables: Tables;
  #trimming = false;
  #disposing: Promise<void> | undefined;

  constructor(database: Database, tables: Tables, options: LmdbStoreOptions) {
    const records = new Records(tables, options.keptExecs);
    super(records);
    const { clock, host, tenant, logger } = options;
    this.#database = database;
    this.#tables = tables;
    this.#options = options;
    this.#self = thisProcess(clock);
    this.installId = options.installId;
    this.processId = this.#self.process_id;
    this.#records = records;
    this.#numbering = { records: this.#records, tables, host, tenant, clock, nextId: monotonicIds(clock) };
    this.#processes = new StoreProcesses(database, tables);
    this.#roles = new StoreRoles(database, tables, this.#processes, this.processId);
    this.#doorbell = new Doorbell({
      path: path.join(options.dataDir, "bell"),
      newest: () => {
        database.refresh();
        return this.journal.newest();
      },
      ...(logger !== undefined && { logger }),
    });
    this.journal = new StoreJournal(database, tables, this.#doorbell, clock);
    this.processes = this.#processes;
    this.roles = this.#roles;
  }

  /** Enters this process in the table and strikes out the dead. */
  async register(): Promise<void> {
    await this.#database.transact(() => {
      this.#processes.removeDead();
      this.#processes.add(this.#self);
    });
  }

  async write<T>(plan: (tx: Tx) => T, { necessary = false } = {}): Promise<T> {
    const planned = () => {
      const tx = new PlanTx(this.#records, this.#numbering);
      const result = plan(tx);
      if (result instanceof Promise) throw new SandboxError("INTERNAL", "A plan of the store must be synchronous.");
      return { result, appended: tx.appended };
    };
    const { result, appended } = await this.#database.transact(planned, { needsRoom: !necessary });
    if (appended > 0) {
      this.#doorbell.ring();
      this.#trim();
    }
    return result;
  }

  requireRoom(): void {
    requireRoom(this.#options.dataDir);
  }

  async flushed(): Promise<void> {
    await this.#database.sync();
  }

  sandboxes(options: { tenant: string; includeEnded: boolean; beforeKey?: string }): Iterable<SandboxRecord> {
    return this.#records.sandboxes(options);
  }

  execs(sandboxId: string, limit: number): ExecRecord[] {
    return this.#records.execs(sandboxId, limit);
  }

  async prune(): Promise<void> {
    this.#database.freeDeadReaders();
    const limitMs = this.#options.clock() - this.#options.endedDays * dayMs;
    await this.#database.transact(() => {
      this.#processes.removeDead();
      forgetRelays(this.#numbering, limitMs);
    });
    // Entries first: what of them was never relayed is told under sandboxes that still have a record.
    await this.#repeat(() => dropAged(this.#numbering, limitMs));
    await this.#repeat(() => dropOverflow(this.#numbering, this.#options.journalMaxBytes));
    await this.#repeat(() => {
      const ended = this.#records.endedBefore(new Date(limitMs).toISOString(), pruneBatch);
      for (const id of ended) this.#records.removeSandbox(id);
      return ended.length === pruneBatch;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<void> {
    this.#doorbell.close();
    try {
      await this.#database.transact(() => {
        this.#roles.releaseAll();
        this.#processes.remove(this.processId);
      });
    } catch (error) {
      // The next server finds this process dead and takes over all the same.
      this.#options.logger?.debug({ err: error }, "the store could not be told of this process' end");
    }
    await this.#database.close();
  }

  /** Repeats a step, each in a transaction of its own, as long as it returns true. */
  async #repeat(step: () => boolean): Promise<void> {
    const newest = this.journal.newest();
    while (await this.#database.transact(step, { needsRoom: true }));
    if (this.journal.newest() !== newest) this.#doorbell.ring();
  }

  /** Keeps the journal within its bound without making the caller of `write` wait for it. */
  #trim(): void {
    const { journalMaxBytes, logger } = this.#options;
    if (this.#trimming || (this.#tables.totals.get("journal")?.bytes ?? 0) <= journalMaxBytes) return;
    this.#trimming = true;
    this.#repeat(() => dropOverflow(this.#numbering, journalMaxBytes))
      .catch((error: unknown) => {
        if (this.#disposing === undefined) logger?.warn({ err: error }, "the journal could not be trimmed");
      })
      .finally(() => {
        this.#trimming = false;
      });
  }
}
