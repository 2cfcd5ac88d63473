import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { relayTarget } from "../../../src/events/login.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, faults, stored } from "../../support/nats.ts";
import { compileSources, relayChild, storeWithSandboxes } from "../../support/nats-store.ts";

let built: string;
beforeAll(() => {
  built = compileSources();
});
afterAll(() => rmSync(built, { recursive: true, force: true }));

it("loses, doubles and reorders nothing while relay and server are killed in turn under load", async () => {
  await using source = await storeWithSandboxes(10);
  const { store, dataDir, ids, told, emit } = source;
  let server = await startNats();
  const target = relayTarget({ servers: [server.url] });
  const cursor = () => store.journal.relayCursor(target).cursor;
  let child = await relayChild(built, dataDir, server.url);
  let stop = false;
  const load = (async () => {
    while (!stop) {
      // No more than is relayed soon, however slow the machine.
      if (store.journal.newest() - cursor() < 2_000) await Promise.all(ids.map(emit));
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();

  for (let kills = 0; kills < 6; kills += 1) {
    const before = cursor();
    await eventually("events flow", () => cursor() > before + 500, 30_000);
    if (kills % 2 === 0) {
      await child.end("SIGKILL");
      child = await relayChild(built, dataDir, server.url);
    } else {
      await crash(server);
      server = await again(server);
    }
  }
  stop = true;
  await load;
  await eventually("all is relayed", () => cursor() === store.journal.newest(), 60_000);

  const nc = await consumer(server.url);
  expect(faults(await stored(nc), told)).toEqual([]);
  await nc.close();
  expect(await child.end("SIGTERM")).toBe(0);
  await server.stop();
}, 300_000);

it("hands over to another process of the install at once when the relaying one is killed", async () => {
  await using source = await storeWithSandboxes(2);
  const { store, dataDir, ids, told, emit } = source;
  await using server = await startNats();
  const target = relayTarget({ servers: [server.url] });
  const first = await relayChild(built, dataDir, server.url);
  await eventually("the first relays", () => store.roles.holder(`relay:${target}`));
  const second = await relayChild(built, dataDir, server.url);

  await first.end("SIGKILL");
  await Promise.all(ids.map(emit));

  await eventually("the second relays", () => store.journal.relayCursor(target).cursor === 2, 9_000);
  const nc = await consumer(server.url);
  expect(faults(await stored(nc), told)).toEqual([]);
  await nc.close();
  await second.end("SIGTERM");
});

it("keeps order when a relay that stood still wakes up and finds another in its place", async () => {
  await using source = await storeWithSandboxes(5);
  const { store, dataDir, ids, told, emit } = source;
  await using server = await startNats();
  const role = `relay:${relayTarget({ servers: [server.url] })}`;
  const cursor = () => store.journal.relayCursor(relayTarget({ servers: [server.url] })).cursor;
  const first = await relayChild(built, dataDir, server.url);
  const before = await eventually("the first relays", () => store.roles.holder(role));
  const second = await relayChild(built, dataDir, server.url);
  const tell = () => Promise.all(Array.from({ length: 40 }, () => ids.map(emit)).flat());
  await tell();

  process.kill(before.pid, "SIGSTOP");
  await tell();
  await eventually("the second takes over", () => {
    const holder = store.roles.holder(role);
    return holder && holder.pid !== before.pid;
  });
  await tell();
  process.kill(before.pid, "SIGCONT");
  await tell();

  await eventually("all is relayed", () => cursor() === store.journal.newest());
  const nc = await consumer(server.url);
  expect(faults(await stored(nc), told)).toEqual([]);
  expect(store.roles.holder(role)?.pid).not.toBe(before.pid);
  await nc.close();
  await Promise.all([first.end("SIGTERM"), second.end("SIGTERM")]);
});
