import type { NatsSession } from "./connection.ts";
import { lastSequence } from "./stream.ts";
import { type SubjectOf, sandboxSubject } from "./subject.ts";
import { unless } from "./wait.ts";

const mostKnown = 10_000;

/**
 * What the stream has already. It knows a message id for the duplicate window only; what was sent longer ago is told by the last
 * sequence it has of the sandbox. An event cannot have been sent before it happened, so that most never need the look.
 */
export class StreamHistory {
  readonly #session: NatsSession;
  readonly #duplicateWindowMs: number;
  readonly #now: () => number;
  readonly #last = new Map<string, number>();

  constructor(options: { session: NatsSession; duplicateWindowMs: number; now: () => number }) {
    this.#session = options.session;
    this.#duplicateWindowMs = options.duplicateWindowMs;
    this.#now = options.now;
  }

  /** Whether an event that happened at `time` and may have been sent since is there. */
  async has(event: SubjectOf & { sequence: number; time: string }): Promise<boolean> {
    // The rest is for clocks that do not agree.
    if (this.#now() - Date.parse(event.time) < this.#duplicateWindowMs * 0.8) return false;
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
