import type { JournalEntry, SandboxEvent } from "../events.ts";
import { appendEvent, type Numbering } from "./numbering.ts";
import type { Records } from "./records.ts";
import type { ExecRecord, PoolMember, SandboxRecord, Tx } from "./types.ts";

/** What a plan sees; good for as long as its plan runs, because the tables refuse to be written outside of one. */
export class PlanTx implements Tx {
  appended = 0;
  readonly #records: Records;
  readonly #numbering: Numbering;

  constructor(records: Records, numbering: Numbering) {
    this.#records = records;
    this.#numbering = numbering;
  }

  sandbox(sandboxId: string): SandboxRecord | undefined {
    return this.#records.sandbox(sandboxId);
  }

  sandboxByName(tenant: string, name: string): SandboxRecord | undefined {
    return this.#records.sandboxByName(tenant, name);
  }

  sandboxByRequest(tenant: string, requestId: string): SandboxRecord | undefined {
    return this.#records.sandboxByRequest(tenant, requestId);
  }

  liveSandboxes(): SandboxRecord[] {
    return this.#records.liveSandboxes();
  }

  putSandbox(record: SandboxRecord): void {
    this.#records.putSandbox(record);
  }

  exec(sandboxId: string, execId: string): ExecRecord | undefined {
    return this.#records.exec(sandboxId, execId);
  }

  openExecs(sandboxId: string): ExecRecord[] {
    return this.#records.openExecs(sandboxId);
  }

  putExec(record: ExecRecord): void {
    this.#records.putExec(record);
  }

  pool(): PoolMember[] {
    return this.#records.pool();
  }

  poolMember(sandboxId: string): PoolMember | undefined {
    return this.#records.poolMember(sandboxId);
  }

  putPoolMember(member: PoolMember): void {
    this.#records.putPoolMember(member);
  }

  removePoolMember(sandboxId: string): void {
    this.#records.removePoolMember(sandboxId);
  }

  emit(sandboxId: string, event: SandboxEvent): JournalEntry {
    const entry = appendEvent(this.#numbering, sandboxId, event);
    this.appended += 1;
    return entry;
  }
}
