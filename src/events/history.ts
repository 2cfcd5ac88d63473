import type { JetStreamManager, StoredMsg } from "@nats-io/jetstream";
import { z } from "zod";
import { type JournaledType, journaledEvents, terminalTypes } from "../sandbox/events.ts";
import type { Journal } from "../sandbox/store/types.ts";
import type { NatsSession } from "./connection.ts";
import { streamName } from "./stream.ts";
import { eventSubject, type SubjectOf, sandboxSubject } from "./subject.ts";
import { unless } from "./wait.ts";

const mostKnown = 10_000;
/** How long a login that may not read the stream is believed to be one: rights change. */
const blindMs = 30_000;
const journaledTypes = Object.keys(journaledEvents) as JournaledType[]; // the keys of that very object

/** A journaled event, where it stands in the journal and in its sandbox. */
export interface Told extends SubjectOf {
  type: JournaledType;
  sequence: number;
  cursor: number;
}

/** What the stream has of a sandbox. */
interface Known {
  /** Highest sequence, from the event on that was looked for; 0 when it has none. */
  sequence: number;
  /** The stream's own number of the last message of each type; none where it may not be read. */
  lastOf?: Map<JournaledType, number>;
}

/**
 * What the stream has already. It knows a message id for the duplicate window only, and no clock says how long ago something was sent: they
 * jump, and those of two processes differ. So each message goes out with the number of the last one on its subject: the stream refuses
 * it when that is another by now, as when a relay that stood still for an hour sends what it had in its hands.
 */
export class StreamHistory {
  readonly #session: NatsSession;
  readonly #journal: Journal;
  /** What came later is sent by nobody else, as far as is known. */
  #inherited: number;
  readonly #known = new Map<string, Known>();
  #blindUntil = 0;

  constructor(session: NatsSession, journal: Journal, inherited: number) {
    this.#session = session;
    this.#journal = journal;
    this.#inherited = inherited;
  }

  /** Whether it is in the stream, and which message has to be the last on its subject if not; `undefined` where that cannot be known. */
  async find(event: Told): Promise<{ has: boolean; last: number | undefined }> {
    const { sequence, lastOf } = this.#known.get(sandboxSubject(event)) ?? (await this.#learn(event));
    return { has: event.sequence <= sequence, last: lastOf && (lastOf.get(event.type) ?? 0) };
  }

  /** The stream took it, as its message of this number. */
  took(event: Told, message: number): void {
    const key = sandboxSubject(event);
    if (terminalTypes.has(event.type)) this.#known.delete(key);
    else this.#known.get(key)?.lastOf?.set(event.type, message);
  }

  /** It may have been sent without an answer, or by somebody else: the stream is asked. */
  doubt(event: Told): void {
    this.#known.delete(sandboxSubject(event));
    this.#inherited = Math.max(this.#inherited, event.cursor);
  }

  async #learn(event: Told): Promise<Known> {
    const isFirst = event.sequence === 1 && event.cursor > this.#inherited;
    const known = isFirst ? { sequence: 0, lastOf: new Map() } : await this.#look(event);
    if (known.lastOf === undefined) return known;
    if (this.#known.size >= mostKnown) this.#known.clear();
    this.#known.set(sandboxSubject(event), known);
    return known;
  }

  async #look(event: Told): Promise<Known> {
    if (performance.now() < this.#blindUntil) return { sequence: 0 };
    try {
      return (await unless(this.#read(event), this.#session.down)) ?? { sequence: 0 };
    } catch (error) {
      if (isForbidden(error)) this.#blindUntil = performance.now() + blindMs;
      else if (!isStreamless(error)) throw error;
      return { sequence: 0 };
    }
  }

  /**
   * Each type is asked for by its whole subject: a server finds that without a search, and whatever else lies below the sandbox cannot
   * stand before it.
   */
  async #read(event: Told): Promise<Known> {
    const { jetstreamManager } = await import("@nats-io/jetstream");
    const manager = await jetstreamManager(this.#session.nc, { checkAPI: false, timeout: 5_000 });
    const ask = async (type: JournaledType) => ({ type, last: await lastOn(manager, eventSubject(event, type)) });
    // One alone at first: it may be that none may be asked for.
    const own = await ask(event.type);
    const others = await Promise.all(journaledTypes.filter((type) => type !== event.type).map(ask));
    const known = { sequence: 0, lastOf: new Map<JournaledType, number>() };
    for (const { type, last } of [own, ...others]) {
      if (!last) continue;
      known.lastOf.set(type, last.message);
      const { event: found } = last;
      if (found && found.sequence > known.sequence && this.#wrote(event, found)) known.sequence = found.sequence;
    }
    return known;
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

/** The last message of a subject, and which event it is; that is undefined for one that no relay sent. */
async function lastOn(
  manager: JetStreamManager,
  subject: string,
): Promise<{ message: number; event: Identity | undefined } | undefined> {
  const message = await manager.streams.getMessage(streamName, { last_by_subj: subject });
  return message === null ? undefined : { message: message.seq, event: eventIn(message) };
}

function eventIn(message: StoredMsg): Identity | undefined {
  try {
    const found = identity.parse(message.json());
    return found.id === message.header.get("Nats-Msg-Id") ? found : undefined;
  } catch {
    return undefined;
  }
}

/** A login may publish and not read the stream: it gets at least once. */
const isForbidden = (error: unknown): boolean =>
  error instanceof Error && error.cause instanceof Error && error.cause.name === "PermissionViolationError";

/** What is sent next tells of it. */
const isStreamless = (error: unknown): boolean => error instanceof Error && error.name === "StreamNotFoundError";
