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

/** A sandbox of which something was told within the last second. */
interface Pending {
  /** Held back, by path. */
  changes: Map<string, Change>;
  /** The one that led to the first of them. */
  call: Call;
  timer: NodeJS.Timeout;
  /** Resolves once all that was given to the journal is in it. */
  told: Promise<void>;
}

/**
 * Tells of changed files: the first at once, what follows within a second together. No call waits for the journal, so a server
 * that is killed takes along what it holds back; one that ends in order, or ends the sandbox, tells it before.
 */
export class FileChanges implements AsyncDisposable {
  readonly #core: Core;
  readonly #pending = new Map<string, Pending>();
  #closed = false;

  constructor(core: Core) {
    this.#core = core;
    core.beforeEnd.add((sandboxId) => this.#flush(sandboxId));
  }

  add(sandboxId: string, changes: Change[], call: Call): void {
    const open = this.#pending.get(sandboxId);
    if (open && !this.#closed) {
      // What was told before is not of its trace.
      if (open.changes.size === 0) open.call = call;
      for (const change of changes) open.changes.set(change.path, merged(open.changes.get(change.path), change));
      return;
    }
    const told = this.#tell(sandboxId, changes, call);
    if (this.#closed) return;
    this.#pending.set(sandboxId, { changes: new Map(), call, told, timer: this.#later(sandboxId) });
  }

  #later(sandboxId: string): NodeJS.Timeout {
    return setTimeout(() => this.#next(sandboxId), coalesceMs).unref();
  }

  /** The second is over: the next begins with what was held back, if there is anything. */
  #next(sandboxId: string): void {
    const open = this.#pending.get(sandboxId);
    if (!open) return;
    if (open.changes.size === 0) {
      this.#pending.delete(sandboxId);
      return;
    }
    void this.#flush(sandboxId);
    open.timer = this.#later(sandboxId);
  }

  /** Tells what is held back of a sandbox, now. Resolves once all of it is in the journal. */
  async #flush(sandboxId: string): Promise<void> {
    const open = this.#pending.get(sandboxId);
    if (!open) return;
    if (open.changes.size > 0) {
      const changes = [...open.changes.values()];
      open.changes.clear();
      const last = this.#tell(sandboxId, changes, open.call);
      open.told = Promise.all([open.told, last]).then(() => {});
    }
    await open.told;
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

  /** Whoever changes files after this is told of at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const { timer } of this.#pending.values()) clearTimeout(timer);
    await Promise.all([...this.#pending.keys()].map((sandboxId) => this.#flush(sandboxId)));
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
