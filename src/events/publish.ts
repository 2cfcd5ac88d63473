import type { JetStreamClient } from "@nats-io/jetstream";
import type { Item } from "./lanes.ts";
import { streamName } from "./stream.ts";

/** Code of the JetStream API for a message that another stream than the expected one would take. */
const otherStream = 10060;

/** Another stream takes the subject: what it has acknowledged is not where consumers look. */
class OtherStreamError extends Error {
  override readonly name = "OtherStreamError";
  constructor(cause: unknown) {
    super(`another stream than ${streamName} takes its subject`, { cause });
  }
}

/** What became of a message that the stream has: `duplicates` when it had it before. */
export type Outcome = "published" | "duplicates";

/** Resolves once the stream has it. */
export async function publish(client: JetStreamClient, { message, headers }: Item): Promise<Outcome> {
  const { subject, payload, id } = message;
  try {
    const ack = await client.publish(subject, payload, { msgID: id, headers, expect: { streamName } });
    return ack.duplicate ? "duplicates" : "published";
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === otherStream) throw new OtherStreamError(error);
    throw error;
  }
}
