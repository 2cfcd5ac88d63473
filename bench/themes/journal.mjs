// @ts-check
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { startNats } from "../../scripts/lib/nats.mjs";
import { atLeast } from "../lib/goals.mjs";
import { built } from "../lib/guest.mjs";
import { withFolder } from "../lib/host.mjs";
import { eventually, must, parallel, rate, took } from "../lib/measure.mjs";
import { messagesIn, rawStream, withNats } from "../lib/nats.mjs";
import { tell, withStore } from "../lib/store.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench */

const SANDBOXES = 50;
/** As come and go in an outage: none of them is known to the relay. */
const SANDBOXES_OF_OUTAGE = 2_000;
/** Of one event on NATS, about. */
const EVENT_BYTES = 1_000;

/** @type {import("../lib/bench.mjs").Theme} */
export const journal = {
  name: "journal",
  title: "Journal and relay",
  async run(bench) {
    const count = bench.samples(20_000);
    await commits(bench, count);
    await drain(bench, count);
  },
};

/** @param {number} count @param {number} ms */
const perSecond = (count, ms) => (count * 1_000) / ms;

/** @param {Bench} bench @param {number} count */
async function commits(bench, count) {
  /** @type {number[]} */
  const samples = [];
  for (let i = 0; i < bench.samples(3, 1); i++) {
    await withStore(SANDBOXES, async (store, ids) => {
      const before = store.journal.newest();
      const ms = await took(async () => {
        await tell(store, ids, count);
        await store.flushed();
      });
      must(store.journal.newest() - before === count, "events are missing from the journal");
      samples.push(perSecond(count, ms));
    });
  }
  const ours = rate("one transaction each, 64 in flight", samples, "events/s");
  const floor = rate("append 64, fdatasync", [perSecond(count, await appends(count))], "events/s");
  bench.row({ id: "journal.commit", what: "events journaled and flushed", ours, floor, goals: [atLeast(5_000)] });
}

/** The same bytes to a plain file. @param {number} count */
const appends = (count) =>
  withFolder((folder) =>
    took(async () => {
      const file = openSync(join(folder, "log"), "w");
      const group = "x".repeat(EVENT_BYTES * 64);
      for (let i = 0; i < count; i += 64) {
        writeSync(file, group);
        fdatasyncSync(file);
      }
      closeSync(file);
    }),
  );

/** A journal that filled while NATS was away. @param {Bench} bench @param {number} count */
async function drain(bench, count) {
  const floor = await publishFloor(count);
  /** @type {number[]} */
  const samples = [];
  for (let i = 0; i < bench.samples(3, 1); i++) {
    samples.push(await withFolder((storeDir) => outage(count, storeDir)));
  }
  const ours = rate("relay", samples, "events/s");
  bench.row({ id: "journal.drain", what: "relay after an outage", ours, floor, goals: [atLeast(4_000)] });
}

/** Events a second from the first that is taken to the last. @param {number} count @param {string} storeDir of the nats-server, which outlives its outage */
const outage = (count, storeDir) =>
  withStore(SANDBOXES_OF_OUTAGE, async (store, ids) => {
    const { startPublisher } = await built("events/publisher.js");
    const { createLogger } = await built("logger.js");
    const before = await startNats({ storeDir });
    const publisher = startPublisher({
      login: { servers: [before.url] },
      store,
      host: "bench",
      tenant: "default",
      hostUp: () => ({ version: "0", capacity: { cpus: 0, memory_bytes: 0, sandboxes: 0 } }),
      logger: createLogger("silent"),
    });
    const relay = () => publisher.status().relay;
    await eventually("the relay is at work", () => relay().state === "relaying");
    await before.stop();
    await tell(store, ids, count);
    const nats = await startNats({ storeDir, port: before.port });
    try {
      const first = await eventually("the first event is taken", () => relay().published, { everyMs: 1 });
      const started = performance.now();
      await eventually("the journal is drained", () => relay().behind === 0, { everyMs: 1 });
      const perS = perSecond(count - first, performance.now() - started);
      const stored = await messagesIn(nats.url, "CHORUS_SANDBOX_EVENTS");
      must(stored === count, `${stored} of ${count} events are in the stream`);
      return perS;
    } finally {
      await publisher[Symbol.asyncDispose]();
      await nats.stop();
    }
  });

/** Publishing alone, as many at once as there are sandboxes. @param {number} count */
const publishFloor = (count) =>
  withNats(async ({ url }) => {
    const stream = await rawStream(url);
    const text = "x".repeat(EVENT_BYTES);
    const ms = await took(() => parallel(count, SANDBOXES, (i) => stream.publish(`bench.${i % SANDBOXES}`, text)));
    await stream.close();
    return rate("js.publish, 50 at once", [perSecond(count, ms)], "events/s");
  });
