#!/usr/bin/env node
// @ts-check
/**
 * The other side of the demo: a consumer with the 2.x NATS client that knows nothing of the server. It reads the JetStream
 * stream in order and prints one line of JSON per event. Ends with its stdin.
 */
import { connect, consumerOpts } from "nats";

const STREAM_SUBJECTS = "chorus.sandbox.v1.>";
const connection = await connect({ servers: process.env["NATS_URL"] ?? "nats://127.0.0.1:4222", name: "demo watcher" });
const show = (/** @type {Uint8Array} */ data, /** @type {string} */ subject) => {
  const event = JSON.parse(new TextDecoder().decode(data));
  process.stdout.write(`${JSON.stringify({ subject, at: Date.now(), event })}\n`);
};

process.stdin.resume().once("end", () => void connection.close());

// Samples travel on core NATS only; all else is in the stream, which is there once the server has made it.
const samples = connection.subscribe("chorus.sandbox.v1.*.*.*.stats.sampled");
void (async () => {
  for await (const message of samples) show(message.data, message.subject);
})();

const options = consumerOpts().orderedConsumer().deliverAll();
const events = await waitForStream(() => connection.jetstream().subscribe(STREAM_SUBJECTS, options));
for await (const message of events) show(message.data, message.subject);

/**
 * @template T
 * @param {() => Promise<T>} subscribe
 * @returns {Promise<T>}
 */
async function waitForStream(subscribe) {
  for (;;) {
    try {
      return await subscribe();
    } catch (error) {
      if (connection.isClosed()) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
