// Handles every event once, across restarts of itself and of NATS:  node examples/durable-consumer.mjs <file>
// A JetStream durable remembers how far it is; an event is acknowledged once its effect is safe. Effects and ids are appended
// to the file together, and the ids are read back at start, so that what is delivered again changes nothing.
import { appendFileSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const stream = "CHORUS_SANDBOX_EVENTS";
const durable = "example-ledger";
const file = process.argv[2] ?? "events.ndjson";

/** Ids already handled. A real consumer keeps them beside its effects, for at least the stream's max_age of 7 days. */
const handled = new Set();
const ledger = openSync(file, "a");
const kept = readFileSync(file, "utf8");
// A line that a crash cut short does not count, its event comes again; the next line must not be joined to it.
if (kept !== "" && !kept.endsWith("\n")) appendFileSync(ledger, "\n");
for (const line of kept.split("\n")) handled.add(/^(\S+) .*\}$/.exec(line)?.[1]);

const nc = await connect({ servers: process.env.NATS_URL ?? "127.0.0.1:4222", maxReconnectAttempts: -1 });
const manager = await jetstreamManager(nc);
await manager.consumers.add(stream, {
  durable_name: durable,
  ack_policy: AckPolicy.Explicit,
  deliver_policy: DeliverPolicy.All,
  // One unacknowledged event at a time keeps the order through redeliveries.
  max_ack_pending: 1,
  ack_wait: 10_000_000_000, // nanoseconds
});

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
