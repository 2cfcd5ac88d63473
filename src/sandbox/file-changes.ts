import type { Call } from "./api.ts";
import { agent, trace } from "./caller.ts";
import type { Core } from "./core.ts";
import { isTerminal } from "./lifecycle.ts";

/** file.changed is told at most once per sandbox in this time. */
const coalesceMs = 1000;
/** Paths in one event: so many, and so many bytes of them. */
const mostChanges = 200;
const mostPathBytes = 32 * 1024;

export type Change = { path: string; op: string; size_bytes: number | null };

interface Pending {
  changes: Map<string, Change>;
  call: Call;
  timer: NodeJS.Timeout;
}

/** Tells of changed files: the first at once, what follows within a second together. */
export class FileChanges implements AsyncDisposable {
  readonly #core: Core;
  readonly #pending = new Map<string, Pending>();

  constructor(core: Core) {
    this.#core = core;
  }

  add(sandboxId: string, changes: Change[], call: Call): void {
    const open = this.#pending.get(sandboxId);
    if (open) {
      // What was told before is not of its trace.
      if (open.changes.size === 0) open.call = call;
      for (const change of changes) open.changes.set(change.path, merged(open.changes.get(change.path), change));
      return;
    }
    const timer = setTimeout(() => void this.flush(sandboxId), coalesceMs).unref();
    this.#pending.set(sandboxId, { changes: new Map(), call, timer });
    void this.#tell(sandboxId, changes, call);
  }

  /** Tells what is held back of a sandbox, now. */
  async flush(sandboxId: string): Promise<void> {
    const open = this.#pending.get(sandboxId);
    if (!open) return;
    clearTimeout(open.timer);
    this.#pending.delete(sandboxId);
    if (open.changes.size > 0) await this.#tell(sandboxId, [...open.changes.values()], open.call);
  }

  async #tell(sandboxId: string, all: Change[], call: Call): Promise<void> {
    const changes = fitting(all);
    const omitted = all.length - changes.length;
    try {
      await this.#core.store.write((tx) => {
        const record = tx.sandbox(sandboxId);
        // The terminal event is the last one of a sandbox.
        if (!record || isTerminal(record.state)) return;
        tx.putSandbox({ ...record, last_used_at: new Date().toISOString() });
        tx.emit(sandboxId, {
          type: "file.changed",
          data: { changes, ...(omitted > 0 && { omitted }) },
          actor: agent(call),
          ...trace(call),
        });
      });
    } catch (err) {
      this.#core.logger.error({ err, sandbox_id: sandboxId }, "could not journal file.changed");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#pending.keys()].map((sandboxId) => this.flush(sandboxId)));
  }
}

/** A file that came to be and was written again came to be. */
const merged = (before: Change | undefined, now: Change): Change =>
  before?.op === "create" && now.op === "write" ? { ...now, op: "create" } : now;

function fitting(changes: Change[]): Change[] {
  let bytes = 0;
  return changes.slice(0, mostChanges).filter(({ path }) => {
    bytes += Buffer.byteLength(JSON.stringify(path));
    return bytes <= mostPathBytes;
  });
}
