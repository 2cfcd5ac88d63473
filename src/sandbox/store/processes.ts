import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { systemCode } from "../../errors.ts";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";
import type { ProcessRecord, ProcessTable } from "./types.ts";

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
};

let boot: string | undefined;

/** Empty where the system does not tell; then pids are all there is to go by. A process sees one boot. */
export function bootId(): string {
  boot ??= read("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
  return boot;
}

/** Start time of a running process, empty where the system does not tell, undefined when there is no such process. */
export function startTime(pid: number): string | undefined {
  if (process.platform === "linux") {
    // The command's name, in brackets, may hold spaces and brackets: fields count from the last one. state is 3, start 22.
    const fields = read(`/proc/${pid}/stat`)
      ?.replace(/^.*\)\s*/s, "")
      .split(" ");
    return fields === undefined || fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  }
  try {
    process.kill(pid, 0);
    return "";
  } catch (error) {
    return systemCode(error) === "EPERM" ? "" : undefined;
  }
}

export function thisProcess(clock: () => number): ProcessRecord {
  return {
    process_id: `ps_${randomBytes(8).toString("hex")}`,
    pid: process.pid,
    start_time: startTime(process.pid) ?? "",
    boot_id: bootId(),
    started_at: new Date(clock()).toISOString(),
  };
}

/** The server processes of this install that opened the store and have not closed it. */
export class StoreProcesses implements ProcessTable {
  readonly #database: Database;
  readonly #tables: Tables;
  readonly #boot = bootId();

  constructor(database: Database, tables: Tables) {
    this.#database = database;
    this.#tables = tables;
  }

  alive(processId: string): boolean {
    const record = this.find(processId);
    return record !== undefined && this.#runs(record);
  }

  // Both tell of other processes, whose commits of this turn of the event loop a snapshot does not show.
  list(): ProcessRecord[] {
    this.#database.refresh();
    return this.#tables.processes.values({});
  }

  find(processId: string): ProcessRecord | undefined {
    this.#database.refresh();
    return this.#tables.processes.get(processId);
  }

  add(record: ProcessRecord): void {
    this.#tables.processes.put(record.process_id, record);
  }

  remove(processId: string): void {
    this.#tables.processes.remove(processId);
  }

  /** Inside a transaction. */
  removeDead(): void {
    for (const record of this.list()) if (!this.#runs(record)) this.remove(record.process_id);
  }

  #runs(record: ProcessRecord): boolean {
    return record.boot_id === this.#boot && startTime(record.pid) === record.start_time;
  }
}
