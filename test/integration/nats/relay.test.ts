import { readdirSync, readFileSync } from "node:fs";
import { DiscardPolicy, type NatsConnection } from "nats";
import { afterEach, expect, it, vi } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { streamName } from "../../../src/events/stream.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, faults, relaying, stored } from "../../support/nats.ts";
import { MemoryJournal, MemoryRoles } from "../../support/nats-journal.ts";

const cleanups: AsyncDisposable[] = [];
const keep = <T extends AsyncDisposable>(resource: T): T => {
  cleanups.push(resource);
  return resource;
};
const listen = async (url: string): Promise<NatsConnection> => {
  const nc = await consumer(url);
  cleanups.push({ [Symbol.asyncDispose]: () => nc.close() });
  return nc;
};
afterEach(async () => {
  for (const resource of cleanups.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

const sandboxes = Array.from({ length: 8 }, (_, index) => `sb_${index}`);

it("carries events to the stream in order per sandbox, as CloudEvents with stable ids", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  for (let round = 0; round < 50; round += 1)
    for (const sandbox of sandboxes) journal.emit(sandbox, { host: "my.host" });
  const { relay } = keep(relaying(server.url, journal));
  const first = journal.after(0, { limit: 1 })[0];

  await eventually("all is relayed", () => relay.status().behind === 0);

  const received = await stored(await listen(server.url));
  expect(faults(received, journal.told)).toEqual([]);
  expect(received[0]).toMatchObject({
    subject: "chorus.sandbox.v1.my-X2Ehost.default.sb_0.exec.started",
    headers: { "Nats-Msg-Id": first?.id, "content-type": "application/cloudevents+json" },
    event: { specversion: "1.0", id: first?.id, source: "//chorus/hosts/my.host", sequence: "00000000000000000001" },
  });
  expect(relay.status()).toMatchObject({ state: "relaying", published: 400, duplicates: 0, failures: 0, blocked: [] });
});

it("works from the moment a server appears", async () => {
  const place = await startNats();
  await crash(place);
  const journal = new MemoryJournal();
  journal.emit("sb_1");
  const { relay, log } = keep(relaying(place.url, journal));
  await eventually("the failure is told", () => log.said(/cannot connect to NATS/).length > 0);

  const server = keep(await again(place));

  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(faults(await stored(await listen(server.url)), journal.told)).toEqual([]);
  expect(log.said(/cannot connect to NATS/)).toHaveLength(1);
});

it("loses, doubles and reorders nothing while the server is killed again and again under load", async () => {
  let server = await startNats();
  const journal = new MemoryJournal();
  const { relay } = keep(relaying(server.url, journal));
  let stop = false;
  const load = (async () => {
    while (!stop) {
      // No more than is relayed soon, however slow the machine.
      if (relay.status().behind < 2_000) for (const sandbox of sandboxes) journal.emit(sandbox);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  for (let kills = 0; kills < 5; kills += 1) {
    const before = relay.status().cursor;
    await eventually("events flow", () => relay.status().cursor > before + 100);
    await crash(server);
    server = await again(server);
  }
  keep(server);
  stop = true;
  await load;

  await eventually("all is relayed", () => relay.status().behind === 0, 120_000);

  expect(faults(await stored(await listen(server.url)), journal.told)).toEqual([]);
}, 240_000);

it("survives a hung server: what timed out is sent again under its id", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  const { relay } = keep(relaying(server.url, journal));
  journal.emit("sb_1");
  await eventually("the first is relayed", () => relay.status().published === 1);

  process.kill(server.pid, "SIGSTOP");
  for (const sandbox of sandboxes) for (let n = 0; n < 10; n += 1) journal.emit(sandbox);
  await eventually("publishing times out", () => relay.status().failures >= sandboxes.length);
  process.kill(server.pid, "SIGCONT");

  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(faults(await stored(await listen(server.url)), journal.told)).toEqual([]);
  expect(relay.status().blocked).toEqual([]);
});

it("lets one process relay and another take over when that one dies", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  const roles = new MemoryRoles();
  const one = relaying(server.url, journal, { roles: roles.of("one") });
  await eventually("the first relays", () => one.relay.status().state === "relaying");
  const two = keep(relaying(server.url, journal, { roles: roles.of("two") }));
  await eventually("the second stands by", () => two.relay.status().state === "standby");
  for (const sandbox of sandboxes) journal.emit(sandbox);
  await eventually("all is relayed", () => one.relay.status().behind === 0);
  expect(two.relay.status().published).toBe(0);

  roles.dead.add("one");
  await one[Symbol.asyncDispose]();
  for (const sandbox of sandboxes) journal.emit(sandbox);

  await eventually("the second relays the rest", () => two.relay.status().behind === 0);
  expect(two.relay.status().state).toBe("relaying");
  expect(faults(await stored(await listen(server.url)), journal.told)).toEqual([]);
});

it("sends nothing in a tenure that was over before its process knew of it", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  journal.emit("sb_1");
  const now = performance.now.bind(performance);
  let stoodStill = 0;
  vi.spyOn(performance, "now").mockImplementation(() => now() + stoodStill);
  let asked = 0;
  const hold = async () => {
    asked += 1;
    if (asked > 1) return false;
    stoodStill = 11_000;
    return true;
  };
  const roles = { hold, release: async () => {}, holder: () => undefined };
  const { relay } = keep(relaying(server.url, journal, { roles }));

  await eventually("it asks again", () => asked > 1);
  await eventually("it stands by", () => relay.status().state === "standby");
  expect(relay.status()).toMatchObject({ published: 0, cursor: 0 });
});

it("after a take-over past the duplicate window skips what the stream has already", async () => {
  const server = keep(await startNats());
  const nc = await listen(server.url);
  const manager = await nc.jetstreamManager();
  await manager.streams.add({ name: streamName, subjects: ["chorus.sandbox.v1.>"], duplicate_window: 100e6 });
  const journal = new MemoryJournal();
  // Half of it by a clock that runs ahead: times say nothing about when it was sent.
  const ahead = { time: new Date(Date.now() + 3_600_000).toISOString() };
  for (let n = 0; n < 20; n += 1) for (const sandbox of sandboxes) journal.emit(sandbox, n % 2 ? ahead : {});
  const before = relaying(server.url, journal);
  await eventually("all is relayed", () => before.relay.status().behind === 0);
  await before[Symbol.asyncDispose]();
  const { messages } = (await manager.streams.info(streamName)).state;
  expect(messages).toBe(160);
  // As when the process died before it could write its cursor, and some time ago.
  await journal.setRelayCursor("t", 5);
  const since = performance.now();
  await eventually("the window is over", () => performance.now() - since > 200);
  for (const sandbox of sandboxes) journal.emit(sandbox);

  const { relay } = keep(relaying(server.url, journal));

  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(relay.status()).toMatchObject({ published: 8, duplicates: 155 });
  expect(faults(await stored(nc), journal.told)).toEqual([]);
});

it("holds back one sandbox that may not be published, and no other", async () => {
  const users = (allow: string) =>
    `authorization { users = [ { user: "p", password: "p", permissions: { publish: ${allow}, subscribe: ">" } } ] }`;
  const server = await startNats({ config: users(`{ deny: "chorus.sandbox.v1.*.secret.>" }`) });
  const journal = new MemoryJournal();
  const login = { servers: [server.url], user: "p", password: "p" };
  const { relay, log } = keep(relaying(login, journal));
  journal.emit("sb_secret", { tenant: "secret" });
  journal.emit("sb_secret", { tenant: "secret" });
  for (let n = 0; n < 100; n += 1) for (const sandbox of sandboxes) journal.emit(sandbox);

  await eventually("the others are relayed", () => relay.status().published === 800);
  expect(relay.status().blocked).toEqual([
    { sandbox_id: "sb_secret", error: expect.stringContaining("Permissions Violation") },
  ]);
  expect(relay.status().cursor).toBe(0);
  await eventually("it is tried again", () => relay.status().failures > 3);
  expect(log.said(/not taken by NATS/)).toHaveLength(1);

  await crash(server);
  const open = keep(await again(server, { config: users(`">"`) }));
  await eventually("all is relayed", () => relay.status().behind === 0);
  const nc = await consumer(open.url, { user: "p", pass: "p" });
  expect(faults(await stored(nc), journal.told)).toEqual([]);
  await nc.close();
});

const readAhead = { maxEntries: 50, maxBytes: 2 ** 20 };

it("goes on with the others behind more than is read ahead of one that is refused, and takes up that one where it stood", async () => {
  const users = (allow: string) =>
    `authorization { users = [ { user: "p", password: "p", permissions: { publish: ${allow}, subscribe: ">" } } ] }`;
  const server = await startNats({ config: users(`{ deny: "chorus.sandbox.v1.*.secret.>" }`) });
  const journal = new MemoryJournal();
  const { relay } = keep(relaying({ servers: [server.url], user: "p", password: "p" }, journal, { readAhead }));
  for (let n = 0; n < 120; n += 1) journal.emit("sb_secret", { tenant: "secret" });
  for (const sandbox of sandboxes) for (let n = 0; n < 50; n += 1) journal.emit(sandbox);

  await eventually("the others are relayed", () => relay.status().published === 400);
  expect(relay.status()).toMatchObject({ cursor: 0, behind: 520, blocked: [{ sandbox_id: "sb_secret" }] });
  // What comes while it is refused keeps its place too.
  journal.emit("sb_secret", { tenant: "secret" });
  journal.emit("sb_0");
  await eventually("the new one is relayed", () => relay.status().published === 401);

  await crash(server);
  const open = keep(await again(server, { config: users(`">"`) }));
  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(relay.status().cursor).toBe(journal.newest());
  const nc = await consumer(open.url, { user: "p", pass: "p" });
  expect(faults(await stored(nc), journal.told)).toEqual([]);
  await nc.close();
});

it("takes up a refused one in the session in which it is allowed again, while the others go on", async () => {
  const server = keep(await startNats());
  const nc = await listen(server.url);
  const manager = await nc.jetstreamManager();
  const subject = "chorus.sandbox.v1.*.*.sb_big.>";
  const small = { name: streamName, subjects: ["chorus.sandbox.v1.>"], max_msg_size: 2_000 };
  await manager.streams.add(small);
  const journal = new MemoryJournal();
  const { relay } = keep(relaying(server.url, journal, { readAhead }));
  journal.emit("sb_big", { data: { command: "x".repeat(3_000) } });
  for (let n = 0; n < 100; n += 1) journal.emit("sb_big");
  for (const sandbox of sandboxes) journal.emit(sandbox);
  await eventually("the others are relayed", () => relay.status().published === 8);

  await manager.streams.update(streamName, { ...small, max_msg_size: -1 });
  const more = (async () => {
    while (relay.status().behind > 0) {
      journal.emit("sb_1");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  await eventually("all is relayed", () => relay.status().behind === 0);
  await more;
  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(relay.status()).toMatchObject({ blocked: [], cursor: journal.newest() });
  expect((await manager.streams.info(streamName, { subjects_filter: subject })).state.subjects).toMatchObject({
    "chorus.sandbox.v1.h1.default.sb_big.exec.started": 101,
  });
  expect(faults(await stored(nc), journal.told)).toEqual([]);
});

it.each(["cannot be read", "shows less than before"])(
  "reads again what a refused sandbox goes on with when the journal %s for a moment",
  async (trouble) => {
    const server = keep(await startNats());
    const nc = await listen(server.url);
    const manager = await nc.jetstreamManager();
    const small = { name: streamName, subjects: ["chorus.sandbox.v1.>"], max_msg_size: 2_000 };
    await manager.streams.add(small);
    const journal = new MemoryJournal();
    const { after, newest } = journal;
    let rereads = 0;
    let hidden = false;
    journal.after = (cursor, options) => {
      if (options.sandboxId !== "sb_big") return after.call(journal, cursor, options);
      rereads += 1;
      if (rereads > 1) return after.call(journal, cursor, options);
      if (trouble === "cannot be read") throw new Error("no");
      hidden = true;
      return [];
    };
    journal.newest = () => {
      const shown = hidden ? 0 : newest();
      hidden = false;
      return shown;
    };
    const { relay } = keep(relaying(server.url, journal, { readAhead }));
    journal.emit("sb_big", { data: { command: "x".repeat(3_000) } });
    for (let n = 0; n < 100; n += 1) journal.emit("sb_big");
    for (const sandbox of sandboxes) journal.emit(sandbox);
    await eventually("the others are relayed", () => relay.status().published === 8);

    await manager.streams.update(streamName, { ...small, max_msg_size: -1 });
    await eventually("it is read again", () => rereads > 0);
    journal.emit("sb_0");

    await eventually("all is relayed", () => relay.status().behind === 0);
    expect(faults(await stored(nc), journal.told)).toEqual([]);
  },
);

it("waits while the stream is full and refuses new messages", async () => {
  const server = keep(await startNats());
  const nc = await listen(server.url);
  const manager = await nc.jetstreamManager();
  const full = { name: streamName, subjects: ["chorus.sandbox.v1.>"], max_msgs: 10, discard: DiscardPolicy.New };
  await manager.streams.add(full);
  const journal = new MemoryJournal();
  for (let n = 0; n < 25; n += 1) journal.emit("sb_1");
  const { relay } = keep(relaying(server.url, journal));
  await eventually("it is full", () => relay.status().blocked.length === 1);
  expect(relay.status().cursor).toBe(10);

  await manager.streams.update(streamName, { ...full, max_msgs: 1_000 });

  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(faults(await stored(nc), journal.told)).toEqual([]);
});

it("cuts an event that is too large and says which fields", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  const changes = Array.from({ length: 200 }, (_, n) => ({
    path: `/${n}${"€".repeat(4_000)}`,
    op: "write",
    size_bytes: 1,
  }));
  journal.emit("sb_1", { type: "file.changed", data: { changes } });
  const { relay } = keep(relaying(server.url, journal));

  await eventually("it is relayed", () => relay.status().behind === 0);

  const [received] = await stored(await listen(server.url));
  expect(received?.event.data).toMatchObject({
    truncated: ["changes"],
    changes: expect.toSatisfy((kept: unknown[]) => kept.length > 50),
  });
  expect(Buffer.byteLength(JSON.stringify(received?.event))).toBeLessThanOrEqual(768 * 1024);
});

it("relays what is committed before it ends, within its bound", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  const { relay } = keep(relaying(server.url, journal, { drainMs: 20_000 }));
  await eventually("it relays", () => relay.status().state === "relaying");
  for (let n = 0; n < 200; n += 1) for (const sandbox of sandboxes) journal.emit(sandbox);

  await relay[Symbol.asyncDispose]();

  expect(journal.relayCursor("t").cursor).toBe(1_600);
  const late = relaying(server.url, journal);
  await eventually("it relays", () => late.relay.status().state === "relaying");
  process.kill(server.pid, "SIGSTOP");
  await eventually("every thread of the server stands still", () =>
    readdirSync(`/proc/${server.pid}/task`).every((thread) =>
      /\) T /.test(readFileSync(`/proc/${server.pid}/task/${thread}/stat`, "utf8")),
    ),
  );
  journal.emit("sb_1");
  const began = performance.now();
  await late[Symbol.asyncDispose]();
  expect(performance.now() - began).toBeLessThan(8_000);
  expect(journal.relayCursor("t").cursor).toBe(1_600);
});

it("relays nothing before it is flushed to disk", async () => {
  const server = keep(await startNats());
  const journal = new MemoryJournal();
  const waiting: (() => void)[] = [];
  const flushed = () => new Promise<void>((resolve) => waiting.push(resolve));
  const { relay } = keep(relaying(server.url, journal, { flushed }));
  await eventually("it relays", () => relay.status().state === "relaying");
  journal.emit("sb_1");
  await eventually("it asks for the disk", () => waiting.length === 1);
  // Told after the flush began, so not covered by it.
  journal.emit("sb_1");
  expect(relay.status()).toMatchObject({ cursor: 0, in_flight: 0 });

  waiting.shift()?.();
  await eventually("the next flush is asked for", () => waiting.length === 1);
  await eventually("the first is relayed", () => relay.status().cursor === 1);
  expect(relay.status().published).toBe(1);
  waiting.shift()?.();
  await eventually("the second is relayed", () => relay.status().cursor === 2);
});
