import type { NatsSession } from "./connection.ts";
import { lastSequence } from "./stream.ts";
import { type SubjectOf, sandboxSubject } from "./subject.ts";
import { unless } from "./wait.ts";

const mostKnown = 10_000;

/**
 * What the stream has already. It knows a message id for the duplicate window only; what was sent longer ago is told by the last
 * sequence it has of the sandbox. No wall clock says how long ago that was: they jump, and those of two processes differ.
 */
export class StreamHistory {
  readonly #session: NatsSession;
  readonly #duplicateWindowMs: number;
  readonly #last = new Map<string, number>();

  constructor(options: { session: NatsSession; duplicateWindowMs: number }) {
    this.#session = options.session;
    this.#duplicateWindowMs = options.duplicateWindowMs;
  }

  /** Whether it is in the stream. `sentMs` is how long ago it was first sent, for all that is known here. */
  async has(event: SubjectOf & { sequence: number }, sentMs: number): Promise<boolean> {
    // The rest is what the way to the server may take.
    if (sentMs < this.#duplicateWindowMs * 0.8) return false;
    const { sandbox_id, sequence } = event;
    let last = this.#last.get(sandbox_id);
    if (last === undefined) {
      last = await unless(lastSequence(this.#session, sandboxSubject(event)), this.#session.down).catch(ifForbidden);
      if (this.#last.size >= mostKnown) this.#last.clear();
      this.#last.set(sandbox_id, last ?? 0);
    }
    return sequence <= (last ?? 0);
  }

  /** Something of the sandbox may have been sent without an answer. */
  forget(sandboxId: string): void {
    this.#last.delete(sandboxId);
  }
}

/** A login that may publish but not read the stream: at least once is what it gets. */
function ifForbidden(error: unknown): undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof Error && cause.name === "PermissionViolationError") return undefined;
  throw error;
}
