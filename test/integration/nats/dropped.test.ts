import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import type { StoreOptions } from "../../../src/sandbox/store/index.ts";
import { eventually } from "../../support/eventually.ts";
import { relaying } from "../../support/nats.ts";
import { execStarted, newStore, sandboxRecord } from "../../support/store.ts";

const dayMs = 86_400_000;
const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A journal on a clock of its own, and relays to targets that are each a server of their own. */
async function setUp(options: Partial<StoreOptions> = {}) {
  let now = Date.UTC(2026, 0, 1);
  const store = await newStore({ clock: () => now, ...options });
  await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a")));
  const { journal } = store;
  return {
    store,
    journal,
    after: (days: number): string => {
      now += days * dayMs;
      return new Date(now).toISOString();
    },
    tell: (count: number) =>
      store.write((tx) => {
        for (let n = 0; n < count; n += 1) tx.emit("sb_a", execStarted(`ex_${n}`));
      }),
    dropped: () =>
      journal
        .after(0, { limit: 1_000 })
        .filter(({ type }) => type === "journal.dropped")
        .map(({ data }) => [data["from_sequence"], data["to_sequence"]]),
    relays: (target: string, url: string, attendEveryMs = 3_600_000) =>
      relaying(url, journal, { target, attendEveryMs, flushed: () => store.flushed() }),
  };
}

async function server(): Promise<string> {
  const started = await startNats();
  open.push(started.stop);
  return started.url;
}

/** Nothing listens there. */
const away = "127.0.0.1:9";

it("announces nothing that the target of today has, whatever one of earlier lacks", async () => {
  const { store, journal, after, tell, dropped, relays } = await setUp();
  {
    await using before = relays("before", await server());
    await tell(3);
    await eventually("it is relayed", () => before.relay.status().behind === 0);
  }
  await using today = relays("today", await server(), 20);
  after(1);
  await tell(5);
  await eventually("it is relayed", () => today.relay.status().behind === 0);
  // It has nothing more to do.
  for (let day = 0; day < 10; day += 1) {
    const time = after(1);
    await eventually("it is spoken for", () => journal.relayCursor("today").at === time);
    await store.prune();
  }

  expect(journal.oldest()).toBe(journal.newest() + 1);
  expect(dropped()).toEqual([]);
});

it("announces what a target that cannot be reached has not got, though an earlier one has it", async () => {
  const { journal, tell, dropped, relays } = await setUp({ journalMaxBytes: 20_000 });
  {
    await using before = relays("before", await server());
    await tell(30);
    await eventually("it is relayed", () => before.relay.status().behind === 0);
  }
  await using _today = relays("today", away);
  await eventually("the journal knows of it", () => journal.relayCursor("today").at);
  // The earlier one has it all, also what comes now.
  await journal.setRelayCursor("before", 1_000);
  await tell(60);

  const [first] = await eventually("the journal overflowed", () => {
    const found = dropped();
    return found.length > 0 && found;
  });
  expect(first?.[0]).toBe(1);
});

it("keeps what is known of a target while a process has it configured, and of the only one", async () => {
  const { store, journal, after, relays } = await setUp();
  await journal.setRelayCursor("left", 7);
  {
    await using _idle = relays("idle", away, 20);
    await journal.setRelayCursor("idle", 5);
    const time = after(8);
    await eventually("it is spoken for", () => journal.relayCursor("idle").at === time);
  }
  await store.prune();
  expect(journal.relayCursor("left")).toEqual({ cursor: 0 });
  expect(journal.relayCursor("idle").cursor).toBe(5);

  // As a laptop that was closed for a month.
  after(30);
  await store.prune();
  expect(journal.relayCursor("idle").cursor).toBe(5);
});
