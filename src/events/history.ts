import type { JetStreamManager } from "@nats-io/jetstream";
import { z } from "zod";
import { type JournaledType, journaledEvents } from "../sandbox/events.ts";
import type { Journal } from "../sandbox/store/types.ts";
import type { NatsSession } from "./connection.ts";
import { streamName } from "./stream.ts";
import { eventSubject, type SubjectOf } from "./subject.ts";
import { unless } from "./wait.ts";

const mostKnown = 10_000;
const journaledTypes = Object.keys(journaledEvents) as JournaledType[]; // the keys of that very object

/** A journaled event, where it stands in the journal and in its sandbox. */
export interface Told extends SubjectOf {
  sequence: number;
  cursor: number;
}

/**
 * What the stream has already. It knows a message id for the duplicate window only; what was sent longer ago is told by the last
 * sequence it has of the sandbox. No wall clock says how long ago that was: they jump, and those of two processes differ.
 */
export class StreamHistory {
  readonly #session: NatsSession;
  readonly #journal: Journal;
  readonly #duplicateWindowMs: number;
  readonly #last = new Map<string, number>();

  constructor(options: { session: NatsSession; journal: Journal; duplicateWindowMs: number }) {
    this.#session = options.session;
    this.#journal = options.journal;
    this.#duplicateWindowMs = options.duplicateWindowMs;
  }

  /** Whether it is in the stream. `sentMs` is how long ago it was first sent, for all that is known here. */
  async has(event: Told, sentMs: number): Promise<boolean> {
    // The rest is what the way to the server may take.
    if (sentMs < this.#duplicateWindowMs * 0.8) return false;
    const { sandbox_id, sequence } = event;
    let last = this.#last.get(sandbox_id);
    if (last === undefined) {
      last = await unless(this.#lastSequence(event), this.#session.down).catch(ifUnreadable);
      if (this.#last.size >= mostKnown) this.#last.clear();
      this.#last.set(sandbox_id, last ?? 0);
    }
    return sequence <= (last ?? 0);
  }

  /** Something of the sandbox may have been sent without an answer. */
  forget(sandboxId: string): void {
    this.#last.delete(sandboxId);
  }

  /**
   * Highest sequence from this event on that the stream has of its sandbox; 0 when it has none. Each type is asked for by its whole
   * subject: a server finds that without a search, and whatever else lies below the sandbox cannot stand before it.
   */
  async #lastSequence(event: Told): Promise<number> {
    const { jetstreamManager } = await import("@nats-io/jetstream");
    const manager = await jetstreamManager(this.#session.nc, { checkAPI: false, timeout: 5_000 });
    let last = 0;
    for (const type of journaledTypes) {
      const found = await lastOn(manager, eventSubject(event, type));
      if (found && found.sequence > last && this.#wrote(event, found)) last = found.sequence;
    }
    return last;
  }

  /** Anyone who may publish below this host can put messages there: only what the journal has itself, from this event on, counts. */
  #wrote({ sandbox_id, sequence, cursor }: Told, found: Identity): boolean {
    if (found.sequence < sequence) return false;
    // Sequences go up with cursors: each look halves what is left of the journal.
    let before = cursor - 1;
    let upTo = this.#journal.newest();
    while (before < upTo) {
      const middle = Math.floor((before + upTo) / 2);
      const [entry] = this.#journal.after(middle, { limit: 1, sandboxId: sandbox_id });
      if (entry?.sequence === found.sequence) return entry.id === found.id;
      if (entry !== undefined && entry.sequence < found.sequence) before = entry.cursor;
      else upTo = middle;
    }
    return false;
  }
}

const identity = z.object({
  id: z.string(),
  sequence: z
    .string()
    .regex(/^\d{20}$/)
    .transform(Number),
});
type Identity = z.infer<typeof identity>;

/** Which event the last message of a subject is; undefined when there is none, or one that no relay sent. */
async function lastOn(manager: JetStreamManager, subject: string): Promise<Identity | undefined> {
  const message = await manager.streams.getMessage(streamName, { last_by_subj: subject });
  if (message === null) return undefined;
  try {
    const found = identity.parse(message.json());
    return found.id === message.header.get("Nats-Msg-Id") ? found : undefined;
  } catch {
    return undefined;
  }
}

/** A login that may publish but not read the stream gets at least once; that there is no stream is told by what is sent next. */
function ifUnreadable(error: unknown): undefined {
  if (!(error instanceof Error)) throw error;
  const forbidden = error.cause instanceof Error && error.cause.name === "PermissionViolationError";
  if (!forbidden && error.name !== "StreamNotFoundError") throw error;
}
