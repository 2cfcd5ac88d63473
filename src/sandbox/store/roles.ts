import { untilDone } from "../wait.ts";
import type { Database } from "./database.ts";
import { part } from "./keys.ts";
import type { StoreProcesses } from "./processes.ts";
import type { RoleRecord, Tables } from "./tables.ts";
import type { ProcessRecord, Roles } from "./types.ts";

/** CLOCK_MONOTONIC: the same for all processes of a boot, and dead holders of an earlier boot are told by their boot id. */
const monotonicMs = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/** Elected roles, decided inside the write lock. */
export class StoreRoles implements Roles {
  readonly #database: Database;
  readonly #tables: Tables;
  readonly #processes: StoreProcesses;
  readonly #self: string;
  /** Counts how often this process took or renewed a role. */
  #holdings = 0;

  constructor(database: Database, tables: Tables, processes: StoreProcesses, self: string) {
    this.#database = database;
    this.#tables = tables;
    this.#processes = processes;
    this.#self = self;
  }

  async hold(role: string, staleMs: number): Promise<boolean> {
    // A snapshot of this turn of the event loop may still show a holder that has just released.
    this.#database.refresh();
    // Those who would lose anyway ask without taking the lock that everyone's writes go through.
    if (this.#heldByOther(this.#tables.roles.get(part(role)), staleMs)) return false;
    this.#holdings += 1;
    const holding = this.#holdings;
    return await this.#database.transact(() => {
      if (this.#heldByOther(this.#tables.roles.get(part(role)), staleMs)) return false;
      const mine = { process_id: this.#self, holding, renewed_ms: monotonicMs(), stale_ms: staleMs };
      this.#tables.roles.put(part(role), mine);
      return true;
    });
  }

  async release(role: string): Promise<void> {
    const last = this.#holdings;
    // What began later goes on.
    const end = () =>
      this.#database.transact(() => {
        const { process_id, holding = 0 } = this.#tables.roles.get(part(role)) ?? {};
        if (process_id === this.#self && holding <= last) this.#tables.roles.remove(part(role));
      });
    await end().catch(() => void untilDone(end));
  }

  holder(role: string): ProcessRecord | undefined {
    const record = this.#tables.roles.get(part(role));
    if (!record || !this.#processes.alive(record.process_id)) return undefined;
    return this.#silent(record, record.stale_ms) ? undefined : this.#processes.find(record.process_id);
  }

  /** Inside a transaction. */
  releaseAll(): void {
    for (const role of this.#tables.roles.keys({})) {
      if (this.#tables.roles.get(role)?.process_id === this.#self) this.#tables.roles.remove(role);
    }
  }

  #heldByOther(record: RoleRecord | undefined, staleMs: number): boolean {
    if (!record || record.process_id === this.#self) return false;
    return this.#processes.alive(record.process_id) && !this.#silent(record, staleMs);
  }

  #silent(record: RoleRecord, staleMs: number): boolean {
    return monotonicMs() - record.renewed_ms > staleMs;
  }
}
