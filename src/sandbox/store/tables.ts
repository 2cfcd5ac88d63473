import { randomBytes } from "node:crypto";
import { SandboxError } from "../../errors.ts";
import type { JournalEntry } from "../events.ts";
import type { Database } from "./database.ts";
import type { Table } from "./table.ts";
import type { ExecRecord, PoolMember, ProcessRecord, SandboxRecord } from "./types.ts";

/** Each call reads the record of its sandbox several times, and the keeper all that live. */
const mostSandboxesRemembered = 512;

/** Raised with every change that an older server would misread. */
const layout = 1;

export interface RoleRecord {
  process_id: string;
  /** Counts what the process took and renewed: giving back an earlier one does not end this. */
  holding?: number;
  /** On the host's monotonic clock, which jumps of the wall clock do not move; comparable within one boot. */
  renewed_ms: number;
  stale_ms: number;
}

export interface Tables {
  meta: Table<{ layout: number; install_id: string }>;
  /** Under `journal`: what the journal has come to. */
  totals: Table<{ newest: number; bytes: number }>;

  sandboxes: Table<SandboxRecord>;
  /** tenant/created_at/id → id. */
  byTime: Table<string>;
  /** id → id of those creating, running or paused. */
  live: Table<string>;
  /** ended_at/id → id of the others. */
  ended: Table<string>;
  /** tenant/name → id, live ones only. */
  byName: Table<string>;
  /** tenant/request_id → id. */
  byRequest: Table<string>;
  /** id → a warm sandbox that waits to become one. */
  pool: Table<PoolMember>;
  /** Last sequence of what has no record: the host itself. */
  sequences: Table<number>;

  /** sandbox/exec. */
  execs: Table<ExecRecord>;
  /** sandbox/order/exec → exec, the first told of first. */
  execsByTime: Table<string>;
  /** sandbox/exec → exec, those without an end. */
  openExecs: Table<string>;

  /** sandbox/told before/id → id of changes that were told. */
  changes: Table<string>;

  /** cursor → entry. */
  journal: Table<JournalEntry>;
  /** sandbox/cursor → cursor. */
  journalBySandbox: Table<number>;
  /** cursor → cursor of file.* entries, the first to go. */
  journalFiles: Table<number>;
  relays: Table<{ cursor: number; sent_to?: number; at: string }>;

  processes: Table<ProcessRecord>;
  roles: Table<RoleRecord>;
}

/** Opens the tables, laying out a new store. Several processes may do so at once: one transaction of one of them decides. */
export async function openTables(database: Database, dataDir: string): Promise<{ tables: Tables; installId: string }> {
  const meta: Tables["meta"] = await database.tables(() => database.table("meta"));
  const found = await database.transact(() => {
    const present = meta.get("store");
    if (present) return present;
    const fresh = { layout, install_id: randomBytes(8).toString("hex") };
    meta.put("store", fresh);
    return fresh;
  });
  if (found.layout !== layout) {
    throw new SandboxError(
      "INVALID_ARGUMENT",
      `The store in ${dataDir} has layout ${found.layout}; this chorus-sandbox reads layout ${layout}.`,
      {
        next: "Run the chorus-sandbox version that wrote it, or set CHORUS_SANDBOX_DATA_DIR to another folder.",
      },
    );
  }
  const tables: Tables = await database.tables(() => ({
    meta,
    totals: database.table("totals"),
    sandboxes: database.table("sandboxes", mostSandboxesRemembered),
    byTime: database.table("by_time"),
    live: database.table("live"),
    ended: database.table("ended"),
    byName: database.table("by_name"),
    byRequest: database.table("by_request"),
    pool: database.table("pool"),
    sequences: database.table("sequences"),
    execs: database.table("execs"),
    execsByTime: database.table("execs_by_time"),
    openExecs: database.table("open_execs"),
    changes: database.table("changes"),
    journal: database.table("journal"),
    journalBySandbox: database.table("journal_by_sandbox"),
    journalFiles: database.table("journal_files"),
    relays: database.table("relays"),
    processes: database.table("processes"),
    roles: database.table("roles"),
  }));
  return { tables, installId: found.install_id };
}
