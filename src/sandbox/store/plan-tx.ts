import type { JournalEntry, SandboxEvent } from "../events.ts";
import { appendEvent, type Numbering } from "./numbering.ts";
import { RecordReads } from "./reads.ts";
import type { Records } from "./records.ts";
import type { ExecRecord, PoolMember, SandboxRecord, Tx } from "./types.ts";

/** What a plan sees; good for as long as its plan runs, because the tables refuse to be written outside of one. */
export class PlanTx extends RecordReads implements Tx {
  appended = 0;
  readonly #records: Records;
  readonly #numbering: Numbering;

  constructor(records: Records, numbering: Numbering) {
    super(records);
    this.#records = records;
    this.#numbering = numbering;
  }

  putSandbox(record: SandboxRecord): void {
    this.#records.putSandbox(record);
  }

  putExec(record: ExecRecord): void {
    this.#records.putExec(record);
  }

  noteChange(sandboxId: string, changeId: string, base: number, forgetBelow: number): boolean {
    return this.#records.noteChange(sandboxId, changeId, base, forgetBelow);
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
