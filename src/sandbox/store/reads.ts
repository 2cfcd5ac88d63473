import type { Records } from "./records.ts";
import type { ExecRecord, PoolMember, SandboxRecord } from "./types.ts";

/** What may be read of the records inside a plan and outside of one alike. */
export class RecordReads {
  readonly #records: Records;

  constructor(records: Records) {
    this.#records = records;
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

  exec(sandboxId: string, execId: string): ExecRecord | undefined {
    return this.#records.exec(sandboxId, execId);
  }

  openExecs(sandboxId: string): ExecRecord[] {
    return this.#records.openExecs(sandboxId);
  }

  pool(): PoolMember[] {
    return this.#records.pool();
  }

  poolMember(sandboxId: string): PoolMember | undefined {
    return this.#records.poolMember(sandboxId);
  }
}
