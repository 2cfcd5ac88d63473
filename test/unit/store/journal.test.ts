import { describe, expect, it } from "vitest";
import type { Store } from "../../../src/sandbox/store/types.ts";
import { execStarted, fileChanged, newDataDir, newStore, sandboxRecord } from "../../support/store.ts";

const start = Date.UTC(2026, 0, 1);
const day = 86_400_000;

async function withSandboxes(store: Store, ...ids: string[]): Promise<Store> {
  await store.write((tx) => {
    for (const id of ids) tx.putSandbox(sandboxRecord(id));
  });
  return store;
}

const dropped = (store: Store) =>
  store.journal.after(0, { limit: 10_000 }).filter((entry) => entry.type === "journal.dropped");

describe("an entry", () => {
  it("carries the common data as they stand in its transaction", async () => {
    const store = await withSandboxes(await newStore({ clock: () => start }), "sb_a");
    const entry = await store.write((tx) => {
      tx.putSandbox(sandboxRecord("sb_a", { state: "paused", labels: { team: "blue" } }));
      return tx.emit("sb_a", { ...execStarted("ex_1"), request_id: "7", cause: "c", traceparent: "00-1-2-03" });
    });
    expect(entry).toEqual({
      cursor: 1,
      id: expect.stringMatching(/^019b76da-a800-7000-[89ab]/),
      sandbox_id: "sb_a",
      tenant: "acme",
      host: "host-1",
      type: "exec.started",
      sequence: 1,
      time: "2026-01-01T00:00:00.000Z",
      traceparent: "00-1-2-03",
      data: {
        sandbox_id: "sb_a",
        host: "host-1",
        tenant: "acme",
        labels: { team: "blue" },
        actor: { kind: "agent", client: "test 1.0" },
        state: "paused",
        request_id: "7",
        cause: "c",
        exec_id: "ex_1",
        command: "true",
        cwd: "/workspace",
        tty: false,
      },
    });
    expect(store.journal.after(0, { limit: 1 })).toEqual([entry]);
  });

  it("has an id that sorts after those before it, even when the clock stands still or goes back", async () => {
    let now = start;
    const store = await withSandboxes(await newStore({ clock: () => now }), "sb_a");
    const ids = await store.write((tx) => {
      const made = Array.from({ length: 5000 }, () => tx.emit("sb_a", execStarted("ex_1")).id);
      now -= day;
      return [...made, tx.emit("sb_a", execStarted("ex_1")).id];
    });
    expect(ids).toEqual(ids.toSorted());
    expect(new Set(ids).size).toBe(5001);
  });

  it("is refused for an unknown sandbox and beyond what NATS carries", async () => {
    const store = await withSandboxes(await newStore(), "sb_a");
    await expect(store.write((tx) => tx.emit("sb_x", execStarted("ex_1")))).rejects.toMatchObject({ code: "INTERNAL" });
    const huge = execStarted("ex_1", "x".repeat(1_000_000));
    await expect(store.write((tx) => tx.emit("sb_a", huge))).rejects.toThrow("more than");
    expect(store.journal.newest()).toBe(0);
  });
});

describe("the journal", () => {
  it("is read from a cursor or from its end, of all or of one sandbox", async () => {
    const store = await withSandboxes(await newStore(), "sb_a", "sb_ab");
    expect([store.journal.newest(), store.journal.oldest()]).toEqual([0, 1]);
    await store.write((tx) => {
      for (let i = 0; i < 12; i++) tx.emit(i % 3 === 0 ? "sb_a" : "sb_ab", execStarted(`ex_${i}`));
    });
    const cursors = (entries: { cursor: number }[]) => entries.map((entry) => entry.cursor);
    const { journal } = store;
    expect([journal.newest(), journal.oldest()]).toEqual([12, 1]);
    expect(cursors(journal.after(8, { limit: 3 }))).toEqual([9, 10, 11]);
    expect(cursors(journal.after(12, { limit: 3 }))).toEqual([]);
    expect(cursors(journal.after(-5, { limit: 2 }))).toEqual([1, 2]);
    expect(cursors(journal.after(4, { limit: 9, sandboxId: "sb_a" }))).toEqual([7, 10]);
    const page = (cursor: number, limit: number, sandboxId?: string) => {
      const { entries, upTo } = journal.page(cursor, { limit, ...(sandboxId && { sandboxId }) });
      return [cursors(entries), upTo];
    };
    expect(page(8, 3)).toEqual([[9, 10, 11], 11]);
    expect(page(8, 9)).toEqual([[9, 10, 11, 12], 12]);
    expect(page(20, 9)).toEqual([[], 20]);
    expect(page(4, 9, "sb_a")).toEqual([[7, 10], 12]);
    expect(page(4, 1, "sb_a")).toEqual([[7], 7]);
    expect(cursors(journal.latest({ limit: 3 }))).toEqual([10, 11, 12]);
    expect(cursors(journal.latest({ limit: 3, sandboxId: "sb_a" }))).toEqual([4, 7, 10]);
  });

  it("keeps a relay's position per target and only moves it forward", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir, clock: () => start });
    const target = `nats://${"host,".repeat(500)}#account`;
    expect(store.journal.relayCursor(target)).toEqual({ cursor: 0 });
    await store.journal.setRelayCursor(target, 7);
    expect(store.journal.relayCursor(target)).toMatchObject({ cursor: 7, sent_to: 0 });
    await store.journal.setRelayCursor(target, 5, 20);
    await store.journal.setRelayCursor(target, 3, 10);
    await store.journal.setRelayCursor("other", 1);
    await store[Symbol.asyncDispose]();
    const again = await newStore({ dataDir });
    expect(again.journal.relayCursor(target)).toEqual({ cursor: 7, sent_to: 20, at: "2026-01-01T00:00:00.000Z" });
  });

  it("calls listeners after a commit, once for a group, until they unsubscribe", async () => {
    const store = await withSandboxes(await newStore(), "sb_a");
    const heard: string[] = [];
    let wake: () => void = () => {};
    const stop = store.journal.onAppend(() => {
      heard.push("first");
      throw new Error("a listener's own trouble");
    });
    store.journal.onAppend(() => {
      heard.push("second");
      wake();
    });
    const told = () => new Promise<void>((resolve) => (wake = resolve));
    let waiting = told();
    await Promise.all([1, 2, 3].map((n) => store.write((tx) => tx.emit("sb_a", execStarted(`ex_${n}`)))));
    await waiting;
    expect(heard).toEqual(["first", "second"]);
    stop();
    waiting = told();
    await store.write((tx) => tx.emit("sb_a", execStarted("ex_4")));
    await waiting;
    expect(heard).toEqual(["first", "second", "second"]);
  });
});

describe("the bound", () => {
  it("drops file.* first, then the oldest, and tells each sandbox what it lost", async () => {
    const bound = 50_000;
    const store = await withSandboxes(await newStore({ journalMaxBytes: bound }), "sb_a", "sb_b");
    await store.write((tx) => {
      for (let i = 0; i < 100; i++) tx.emit("sb_a", i % 2 === 0 ? fileChanged(`f${i}`) : execStarted(`ex_${i}`));
      for (let i = 0; i < 40; i++) tx.emit("sb_b", execStarted(`ex_${i}`));
    });
    await store.prune();
    const size = () => JSON.stringify(store.journal.after(0, { limit: 10_000 })).length;
    expect(size()).toBeLessThan(bound + 1000);
    const count = (type: string) => store.journal.after(0, { limit: 10_000 }).filter((e) => e.type === type).length;
    const files = count("file.changed");
    expect(files).toBeGreaterThan(0);
    expect(count("exec.started")).toBe(90);
    expect(dropped(store).map(({ sandbox_id, sequence, data }) => [sandbox_id, sequence, data["count"]])).toEqual([
      ["sb_a", 101, 50 - files],
    ]);

    await store.write((tx) => {
      for (let i = 0; i < 200; i++) tx.emit("sb_b", execStarted(`ex_${100 + i}`));
    });
    await store.prune();
    expect(size()).toBeLessThan(bound + 1000);
    expect(count("file.changed")).toBe(0);
    expect(store.journal.oldest()).toBeGreaterThan(100);
    accountFor(store, { sb_a: 101, sb_b: 240 });
  });

  it("is kept by ordinary writes, endlessly", async () => {
    const bound = 40_000;
    const store = await withSandboxes(await newStore({ journalMaxBytes: bound }), "sb_a");
    for (let i = 0; i < 1000; i++) await store.write((tx) => tx.emit("sb_a", execStarted(`ex_${i}`)));
    await store.prune();
    expect(JSON.stringify(store.journal.after(0, { limit: 10_000 })).length).toBeLessThan(bound + 1000);
    accountFor(store, { sb_a: 1000 });
  });

  it("says nothing of what every relay had delivered", async () => {
    const store = await withSandboxes(await newStore({ journalMaxBytes: 20_000 }), "sb_a");
    await store.journal.setRelayCursor("one", 30);
    await store.journal.setRelayCursor("two", 1000);
    await store.write((tx) => {
      for (let i = 0; i < 100; i++) tx.emit("sb_a", execStarted(`ex_${i}`));
    });
    await store.prune();
    const [gap] = dropped(store);
    expect(gap?.data["from_sequence"]).toBe(31);
  });
});

/** Every sequence is either still there or within what journal.dropped counts. */
function accountFor(store: Store, told: Record<string, number>): void {
  for (const [sandboxId, atLeast] of Object.entries(told)) {
    const entries = store.journal.after(0, { limit: 10_000, sandboxId });
    const last = store.sandbox(sandboxId)?.sequence ?? 0;
    expect(last).toBeGreaterThanOrEqual(atLeast);
    const lost = dropped(store)
      .filter((entry) => entry.sandbox_id === sandboxId)
      .reduce((sum, entry) => sum + Number(entry.data["count"]), 0);
    // A journal.dropped that was dropped itself is counted with what it told of.
    expect(entries.length + lost).toBe(last);
  }
}

describe("pruning", () => {
  it("removes what ended long ago with its execs and indexes, and old entries", async () => {
    let now = start;
    const store = await newStore({ clock: () => now });
    const ended = { at: new Date(start).toISOString(), reason: "request" as const, oom_killed: false };
    await store.write((tx) => {
      tx.putSandbox(sandboxRecord("sb_old", { state: "running", request_id: "r1", name: "old" }));
      tx.putSandbox(sandboxRecord("sb_long", { state: "running" }));
      tx.putExec({ ...exec("sb_old", "ex_1") });
      tx.emit("sb_old", execStarted("ex_1"));
      tx.emit("sb_long", execStarted("ex_1"));
      tx.emit("sb_long", execStarted("ex_2"));
      tx.putSandbox(sandboxRecord("sb_old", { state: "ended", request_id: "r1", name: "old", ended }));
    });
    now = start + 6 * day;
    await store.write((tx) => tx.emit("sb_long", execStarted("ex_3")));
    await store.prune();
    expect(store.sandbox("sb_old")?.state).toBe("ended");
    expect(store.journal.oldest()).toBe(1);

    now = start + 8 * day;
    await store.prune();
    expect(store.sandbox("sb_old")).toBeUndefined();
    expect(store.exec("sb_old", "ex_1")).toBeUndefined();
    expect(store.openExecs("sb_old")).toEqual([]);
    expect(await store.write((tx) => tx.sandboxByRequest("acme", "r1"))).toBeUndefined();
    expect(Array.from(store.sandboxes({ tenant: "acme", includeEnded: true }), (r) => r.sandbox_id)).toEqual([
      "sb_long",
    ]);
    const rest = store.journal.after(0, { limit: 100, sandboxId: "sb_long" });
    expect(rest.map((entry) => [entry.type, entry.sequence])).toEqual([
      ["exec.started", 3],
      ["journal.dropped", 4],
    ]);
    expect(rest.at(-1)?.data).toMatchObject({ from_sequence: 1, to_sequence: 2, count: 2 });

    now = start + 30 * day;
    await store.prune();
    await store.prune();
    const newest = store.journal.newest();
    await store.prune();
    expect(store.journal.newest()).toBe(newest);
  });
});

const exec = (sandbox_id: string, exec_id: string) => ({
  exec_id,
  sandbox_id,
  command: "true",
  cwd: "/",
  tty: false,
  started_at: new Date(start).toISOString(),
  started_event: "e",
});
