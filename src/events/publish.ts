import type { JetStreamClient } from "@nats-io/jetstream";
import type { Item } from "./lanes.ts";
import { streamName } from "./stream.ts";

/** Code of the JetStream API for a message that another stream than the expected one would take. */
const otherStream = 10060;
/** The same for one whose expected predecessor is not the last on its subject; a cluster may not know which one is. */
const wrongLast: ReadonlySet<unknown> = new Set([10071, 10164]);

const expectedLast = "Nats-Expected-Last-Subject-Sequence";

/** Another stream takes the subject: what it has acknowledged is not where consumers look. */
class OtherStreamError extends Error {
  override readonly name = "OtherStreamError";
  constructor(cause: unknown) {
    super(`another stream than ${streamName} takes its subject`, { cause });
  }
}

/** Another message than the expected one is the last on its subject: the stream did not take it. */
export class MovedOnError extends Error {
  override readonly name = "MovedOnError";
  constructor(cause: unknown) {
    super("somebody else published on its subject", { cause });
  }
}

/** A cluster of servers before 2.11 knows the id of a message that it refused, and takes the same id for a repeat as long as its window lasts. */
class UnstoredError extends Error {
  override readonly name = "UnstoredError";
  constructor() {
    super("the stream knows its id and has not stored it");
  }
}

/** What became of a message that the stream has: `duplicates` when it had it before, and the stream's number of it. */
export interface Published {
  outcome: "published" | "duplicates";
  message: number;
}

/**
 * Resolves once the stream has it.
 * @param last the message that has to be the last on its subject; 0 for none, undefined for any
 * @throws MovedOnError when it is another
 */
export async function publish(
  client: JetStreamClient,
  { message, headers }: Pick<Item, "message" | "headers">,
  last: number | undefined,
): Promise<Published> {
  const { subject, payload, id } = message;
  // From an earlier try: the client sets what is given and leaves the rest.
  headers.delete(expectedLast);
  const expect = { streamName, ...(last !== undefined && { lastSubjectSequence: last }) };
  try {
    const { duplicate, seq } = await client.publish(subject, payload, { msgID: id, headers, expect });
    if (duplicate && seq === 0) throw new UnstoredError();
    return { outcome: duplicate ? "duplicates" : "published", message: seq };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === otherStream) throw new OtherStreamError(error);
    if (wrongLast.has(code)) throw new MovedOnError(error);
    throw error;
  }
}
