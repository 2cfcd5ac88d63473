import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { headers, type JetStreamManager, type NatsConnection } from "nats";
import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { streamName } from "../../../src/events/stream.ts";
import { gate } from "../../support/core.ts";
import { eventually } from "../../support/eventually.ts";
import { consumer, relaying } from "../../support/nats.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";

const windowMs = 100;
const below = "chorus.sandbox.v1.h1.default.sb_1";

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A stream as an operator may have made it, with room for anything below the root and a short memory for ids. */
async function setUp() {
  const server = await startNats();
  open.push(server.stop);
  const nc = await consumer(server.url);
  open.push(() => nc.close());
  const manager = await nc.jetstreamManager();
  await manager.streams.add({
    name: streamName,
    subjects: ["chorus.sandbox.v1.>"],
    duplicate_window: windowMs * 1e6,
  });
  const journal = new MemoryJournal();
  const messages = async () => (await manager.streams.info(streamName)).state.messages;
  const relayed = async () => {
    await using started = relaying(server.url, journal);
    const { relay } = started;
    await eventually("all is relayed", () => relay.status().behind === 0);
    const { published, duplicates, failures } = relay.status();
    return { published, duplicates, failures };
  };
  const windowOver = async () => {
    const since = performance.now();
    await eventually("the window is over", () => performance.now() - since > 2 * windowMs);
  };
  return { url: server.url, nc, manager, journal, messages, relayed, windowOver };
}

const put = async (nc: NatsConnection, action: string, data: string, id?: string): Promise<void> => {
  const known = headers();
  if (id !== undefined) known.set("Nats-Msg-Id", id);
  await nc.jetstream().publish(`${below}.${action}`, data, { headers: known });
};

const disturbances: [what: string, disturb: (nc: NatsConnection, manager: JetStreamManager) => Promise<unknown>][] = [
  ["a sample", (nc) => put(nc, "stats.sampled", JSON.stringify({ id: "s", subject: "sb_1" }), "s")],
  ["what is no event", (nc) => put(nc, "exec.started", "not JSON")],
  ["a sequence that nobody gave", (nc) => put(nc, "lifecycle.died", JSON.stringify({ sequence: "99999999999999" }))],
  ["a stream that dropped the oldest", (_, manager) => manager.streams.purge(streamName, { seq: 4 })],
];

it.each(disturbances)("after a take-over past the window repeats nothing because of %s", async (_, disturb) => {
  const place = await setUp();
  const { journal, messages } = place;
  for (const type of ["lifecycle.created", "exec.started", "file.changed", "exec.completed"] as const)
    journal.emit("sb_1", { type });
  expect(await place.relayed()).toEqual({ published: 4, duplicates: 0, failures: 0 });
  await disturb(place.nc, place.manager);
  const before = await messages();
  // As when the process died before it could write its cursor.
  await journal.setRelayCursor("t", 0);
  await place.windowOver();
  journal.emit("sb_1");

  expect(await place.relayed()).toEqual({ published: 1, duplicates: 4, failures: 0 });
  expect(await messages()).toBe(before + 1);
});

const pretences: [what: string, event: (entry: { id: string }) => { id?: string; sequence?: string }][] = [
  ["a sequence far ahead", () => ({ sequence: "99999999999999" })],
  ["the next sequence under another id", () => ({ id: "x", sequence: "00000000000000000001" })],
  ["a later sequence under the id", ({ id }) => ({ id, sequence: "00000000000000000002" })],
];

it.each(pretences)("takes no event for sent because of a message with %s", async (_, pretend) => {
  const place = await setUp();
  const entry = place.journal.emit("sb_1");
  place.journal.emit("sb_1");
  const pretence = pretend(entry);
  await put(place.nc, "exec.started", JSON.stringify(pretence), pretence.id);
  await place.windowOver();

  expect(await place.relayed()).toEqual({ published: 2, duplicates: 0, failures: 0 });
  const last = await place.manager.streams.getMessage(streamName, { last_by_subj: `${below}.exec.started` });
  expect(last.json()).toMatchObject({ subject: "sb_1", sequence: "00000000000000000002" });
});

it("takes no event for sent because its text lies there under another message id", async () => {
  const place = await setUp();
  const { id } = place.journal.emit("sb_1");
  await put(place.nc, "exec.started", JSON.stringify({ id, sequence: "00000000000000000001" }), "another");
  await place.windowOver();

  expect(await place.relayed()).toEqual({ published: 1, duplicates: 0, failures: 0 });
});

/** A way to a server on which what is sent can be held up for any time, and then gets through. */
async function slowWay(url: string) {
  const { hostname, port } = new URL(url);
  let held: Promise<void> | undefined;
  const way = createServer((near) => {
    const far = connect({ host: hostname, port: Number(port) });
    for (const socket of [near, far]) socket.on("error", () => {});
    far.pipe(near);
    near.on("data", (bytes) => void Promise.resolve(held).then(() => far.write(bytes)));
    near.on("close", () => far.end());
  }).listen(0, "127.0.0.1");
  await once(way, "listening");
  open.push(() => way.close());
  return {
    // A server that listens on a port says so; on a pipe it would be its name.
    url: `nats://127.0.0.1:${(way.address() as AddressInfo).port}`,
    hold(until: Promise<void>): void {
      held = until;
    },
  };
}

it.each(["the first event of a sandbox", "a later event"])(
  "the stream has %s once, though a relay that was replaced long ago sends it at last",
  async (which) => {
    const place = await setUp();
    const { journal, messages } = place;
    const way = await slowWay(place.url);
    const late = relaying(way.url, journal);
    open.push(() => late[Symbol.asyncDispose]());
    await eventually("it relays", () => late.relay.status().state === "relaying");
    if (which === "a later event") {
      journal.emit("sb_1");
      await eventually("the one before is relayed", () => late.relay.status().behind === 0);
    }
    const before = await messages();
    const through = gate();
    way.hold(through.opened);
    journal.emit("sb_1");
    await eventually("it is under way", () => late.relay.status().in_flight === 1);

    expect(await place.relayed()).toMatchObject({ published: 1, failures: 0 });
    await place.windowOver();
    const taken = () => late.relay.status().duplicates;
    expect(taken()).toBe(0);
    through.open();

    await eventually("the late one is answered", () => taken() === 1);
    expect(await messages()).toBe(before + 1);
  },
);

it("who publishes below a sandbox without pause keeps no event of it out of the stream", async () => {
  const place = await setUp();
  let flooding = true;
  const flood = (async () => {
    while (flooding) await Promise.all(Array.from({ length: 50 }, () => put(place.nc, "exec.started", "x")));
  })();
  await eventually("it is flooded", async () => (await place.messages()) > 200);
  for (let n = 0; n < 20; n += 1) place.journal.emit("sb_1");

  expect(await place.relayed()).toEqual({ published: 20, duplicates: 0, failures: 0 });
  flooding = false;
  await flood;
});

it("a login that may publish and not read the stream relays, and says once what it may not", async () => {
  const rights = '{ publish: ["chorus.>", "$JS.API.STREAM.INFO.>"], subscribe: ">" }';
  const server = await startNats({
    config: `authorization { users = [ { user: "all", password: "a" }, { user: "host", password: "h", permissions: ${rights} } ] }`,
  });
  open.push(server.stop);
  const nc = await consumer(server.url, { user: "all", pass: "a" });
  open.push(() => nc.close());
  const manager = await nc.jetstreamManager();
  await manager.streams.add({ name: streamName, subjects: ["chorus.sandbox.v1.>"] });
  const journal = new MemoryJournal();
  for (let n = 0; n < 3; n += 1) for (const sandbox of ["sb_1", "sb_2"]) journal.emit(sandbox);
  // For all that is known a relay before this one has sent them.
  await journal.setRelayCursor("t", 0, 6);
  await using host = relaying({ servers: [server.url], user: "host", password: "h" }, journal);
  await eventually("all is relayed", () => host.relay.status().behind === 0);
  expect(host.relay.status()).toMatchObject({ published: 6, failures: 0 });
  expect(host.log.said(/STREAM\.MSG\.GET/)).toHaveLength(1);
  expect((await manager.streams.info(streamName)).state.messages).toBe(6);
});
