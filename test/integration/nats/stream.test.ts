import { DiscardPolicy, RetentionPolicy, StorageType } from "nats";
import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { streamName, wantedStream } from "../../../src/events/stream.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, faults, type NatsServer, relaying, stored } from "../../support/nats.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

async function setUp(options: Parameters<typeof startNats>[0] = {}) {
  const server = await startNats(options);
  open.push(server);
  const nc = await consumer(server.url);
  open.push({ [Symbol.asyncDispose]: () => nc.close() });
  return { server, nc, manager: await nc.jetstreamManager() };
}

const relay = (server: NatsServer, journal: MemoryJournal) => {
  const started = relaying(server.url, journal);
  open.push(started);
  return started;
};

it("creates the stream as the contract has it, without stats and host facts", async () => {
  const { server, nc, manager } = await setUp();
  const { relay: started, log } = relay(server, new MemoryJournal());
  await eventually("it relays", () => started.status().state === "relaying");

  expect((await manager.streams.info(streamName)).config).toMatchObject({
    subjects: ["lifecycle", "exec", "file", "limit", "policy", "journal"].map((d) => `chorus.sandbox.v1.*.*.*.${d}.*`),
    storage: "file",
    retention: "limits",
    max_age: 7 * 86_400 * 1e9,
    max_bytes: 2 ** 30,
    duplicate_window: 600e9,
  });
  nc.publish("chorus.sandbox.v1.h.t.sb_1.stats.sampled");
  nc.publish("chorus.sandbox.v1.h.t._host.host.up");
  await nc.flush();
  expect((await manager.streams.info(streamName)).state.messages).toBe(0);
  expect(log.lines.filter(({ level }) => level === "warn")).toEqual([]);
});

it("leaves a stream that exists as it is, warns once with the names of what differs, and uses it", async () => {
  const { server, nc, manager } = await setUp();
  const config = { name: streamName, subjects: ["chorus.sandbox.v1.>"], max_msgs: 1_000, duplicate_window: 60e9 };
  const before = (await manager.streams.add(config)).config;
  const journal = new MemoryJournal();
  journal.emit("sb_1");

  const first = relay(server, journal);
  await eventually("it is relayed", () => first.relay.status().behind === 0);
  await crash(server);
  const restarted = await again(server);
  open.push(restarted);
  journal.emit("sb_1");
  await eventually("the next is relayed", () => first.relay.status().behind === 0);

  expect((await manager.streams.info(streamName)).config).toEqual(before);
  expect(first.log.said(/differs/).map(({ fields }) => fields)).toEqual([
    ["duplicate_window", "max_age", "max_bytes", "max_msgs", "subjects"],
  ]);
  expect(faults(await stored(nc), journal.told)).toEqual([]);
});

/** In the enums of the library that the tests use. */
const wanted = {
  ...wantedStream(2 ** 20),
  storage: StorageType.File,
  retention: RetentionPolicy.Limits,
  discard: DiscardPolicy.Old,
};

it.each([
  [["chorus.>"], /stats and host facts/],
  [[...wanted.subjects, "chorus.sandbox.v1.*.acme.*.stats.sampled"], /stats and host facts/],
  [[...wanted.subjects, "chorus.sandbox.v1.*.*._host.host.up"], /stats and host facts/],
  [wanted.subjects.slice(1), /in subjects; left as it is$/],
  [[...wanted.subjects, "chorus.sandbox.v2.>", "chorus.sandbox.v1.*.*.*.other.*"], undefined],
])("says of a stream's subjects %j what is wrong with them", async (subjects, words) => {
  const { server, manager } = await setUp();
  await manager.streams.add({ ...wanted, subjects });
  const { relay: started, log } = relay(server, new MemoryJournal());
  await eventually("it relays", () => started.status().state === "relaying");

  const warnings = log.lines.filter(({ level }) => level === "warn");
  expect(warnings).toEqual(
    words ? [expect.objectContaining({ fields: ["subjects"], msg: expect.stringMatching(words) })] : [],
  );
});

it("says that JetStream is missing once, and goes on as soon as it is there", async () => {
  const server = await startNats({ jetstream: false });
  const journal = new MemoryJournal();
  journal.emit("sb_1");
  const { relay: started, log } = relay(server, journal);
  await eventually("it is told", () => log.said(/jetstream is not enabled/i).length > 0);
  expect(started.status()).toMatchObject({ state: "no_stream", behind: 1 });

  await crash(server);
  open.push(await again(server));

  await eventually("it is relayed", () => started.status().behind === 0);
  expect(log.said(/jetstream is not enabled/i)).toHaveLength(1);
});

it.each([
  ["the server", 'jetstream { store_dir: "STORE", max_file_store: 100M }'],
  [
    "the account",
    `jetstream { store_dir: "STORE" }
     accounts { A { jetstream { max_file: 100M, max_mem: 1M }, users [ { user: a, password: a } ] } }
     no_auth_user: a`,
  ],
  [
    "the account, to a login that may not ask how much,",
    `jetstream { store_dir: "STORE" }
     accounts { A { jetstream { max_file: 2G, disk_max_stream_bytes: 100M },
       users [ { user: a, password: a, permissions: { publish: { deny: "$JS.API.INFO" } } } ] } }
     no_auth_user: a`,
  ],
])("takes a smaller bound where %s allows no more", async (_, config) => {
  const place = await startNats();
  await crash(place);
  const server = await startNats({ jetstream: false, config: config.replace("STORE", place.storeDir) });
  open.push(server);
  const { relay: started } = relay(server, new MemoryJournal());
  await eventually("it relays", () => started.status().state === "relaying");
  const nc = await consumer(server.url);
  const { max_bytes } = (await (await nc.jetstreamManager({ checkAPI: false })).streams.info(streamName)).config;
  await nc.close();
  expect(max_bytes).toBeGreaterThan(16 * 2 ** 20);
  expect(max_bytes).toBeLessThanOrEqual(100 * 2 ** 20);
});

it("makes a stream that was deleted under way again", async () => {
  const { server, nc, manager } = await setUp();
  const journal = new MemoryJournal();
  const { relay: started } = relay(server, journal);
  journal.emit("sb_1");
  await eventually("it is relayed", () => started.status().behind === 0 && started.status().published === 1);
  await manager.streams.delete(streamName);

  journal.emit("sb_1");

  await eventually("it is relayed", () => started.status().behind === 0);
  expect((await stored(nc)).map(({ sequence }) => sequence)).toEqual([2]);
  expect(started.status().blocked).toEqual([]);
});
