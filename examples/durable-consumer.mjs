// Handles every event once, across restarts of itself and of NATS:  node examples/durable-consumer.mjs <file> [name] [filter_subject]
// A JetStream durable remembers how far it is; an event is acknowledged once its effect is safe. Effects and ids are appended
// to the file together, and the ids are read back at start, so that what is delivered again changes nothing.
import { appendFileSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { AckPolicy, DeliverPolicy, JetStreamApiCodes, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connectNats } from "./connect.mjs";

const stream = "CHORUS_SANDBOX_EVENTS";
const [file = "events.ndjson", durable = "example-ledger", filter] = process.argv.slice(2);

/** Ids already handled. A real consumer keeps them beside its effects, for at least the stream's max_age of 7 days. */
const handled = new Set();
const ledger = openSync(file, "a");
const kept = readFileSync(file, "utf8");
// A line that a crash cut short does not count, its event comes again; the next line must not be joined to it.
if (kept !== "" && !kept.endsWith("\n")) appendFileSync(ledger, "\n");
for (const line of kept.split("\n")) handled.add(/^(\S+) .*\}$/.exec(line)?.[1]);

const nc = await connectNats();
// To look whether there is JetStream is a right of its own, which a consumer does not need.
const manager = await jetstreamManager(nc, { checkAPI: false });
const config = {
  durable_name: durable,
  ack_policy: AckPolicy.Explicit,
  deliver_policy: DeliverPolicy.All,
  // One unacknowledged event at a time keeps the order through redeliveries.
  max_ack_pending: 1,
  ack_wait: 10_000_000_000, // nanoseconds
  ...(filter && { filter_subject: filter }),
};

for (let waiting = false; !(await isAdded()); waiting = true) {
  if (!waiting) console.error(`waiting for the stream ${stream}: it appears with the first server's first call`);
  await sleep(1_000);
}

async function isAdded() {
  try {
    return await manager.consumers.add(stream, config);
  } catch (error) {
    if (error.code === JetStreamApiCodes.StreamNotFound) return undefined;
    throw error;
  }
}

const consumer = await jetstream(nc).consumers.get(stream, durable);
const messages = await consumer.consume();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => messages.stop());
console.error(`consuming ${stream} as ${durable}`);

for await (const message of messages) {
  const event = message.json();
  if (!handled.has(event.id)) {
    appendFileSync(
      ledger,
      `${event.id} ${JSON.stringify({ type: event.type, sandbox: event.subject, sequence: event.sequence })}\n`,
    );
    fsyncSync(ledger);
    handled.add(event.id);
  }
  message.ack();
}
await nc.drain();
