import { describe, expect, it } from "vitest";
import type { Tx } from "../../../src/sandbox/store/types.ts";
import { completed, execRecord, execStarted, newStore, sandboxRecord } from "../../support/store.ts";

describe("a plan", () => {
  it("leaves nothing when it throws, not even a number, while its neighbours in the commit stay", async () => {
    const store = await newStore();
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a", { name: "web", request_id: "r1" })));
    const outcomes = await Promise.allSettled([
      store.write((tx) => tx.emit("sb_a", execStarted("ex_1"))),
      store.write((tx) => {
        tx.putSandbox(sandboxRecord("sb_b", { name: "db", request_id: "r2" }));
        tx.putSandbox(sandboxRecord("sb_a", { state: "ended" }));
        tx.putExec(execRecord("sb_a", "ex_2"));
        tx.emit("sb_a", execStarted("ex_2"));
        tx.emit("_host", execStarted("ex_2"));
        throw new RangeError("changed my mind");
      }),
      store.write((tx) => tx.emit("sb_a", execStarted("ex_3"))),
    ]);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(outcomes[1]).toMatchObject({ reason: new RangeError("changed my mind") });
    expect(store.sandbox("sb_b")).toBeUndefined();
    expect(store.sandboxByName("acme", "db")).toBeUndefined();
    expect(store.sandboxByName("acme", "web")?.state).toBe("running");
    expect(store.openExecs("sb_a")).toEqual([]);
    const entries = store.journal.after(0, { limit: 10 });
    expect(entries.map((entry) => [entry.cursor, entry.sequence, entry.data["exec_id"]])).toEqual([
      [1, 1, "ex_1"],
      [2, 2, "ex_3"],
    ]);
    const hostEntry = await store.write((tx) => tx.emit("_host", execStarted("ex_4")));
    expect(hostEntry.sequence).toBe(1);
  });

  it("must be synchronous, and its transaction ends with it", async () => {
    const store = await newStore();
    let escaped: Tx | undefined;
    await expect(
      store.write(async (tx) => {
        tx.putSandbox(sandboxRecord("sb_a"));
      }),
    ).rejects.toMatchObject({ code: "INTERNAL" });
    expect(store.sandbox("sb_a")).toBeUndefined();
    await store.write((tx) => {
      escaped = tx;
    });
    expect(() => escaped?.putSandbox(sandboxRecord("sb_a"))).toThrow("only inside a plan");
  });

  it("reads what it wrote", async () => {
    const store = await newStore();
    await store.write((tx) => {
      tx.putSandbox(sandboxRecord("sb_a", { name: "web", request_id: "r1" }));
      tx.putExec(execRecord("sb_a", "ex_1"));
      tx.putExec(execRecord("sb_a", "ex_2"));
      tx.putExec(execRecord("sb_a", "ex_1", { completed }));
      expect(tx.sandboxByName("acme", "web")?.sandbox_id).toBe("sb_a");
      expect(tx.sandboxByRequest("acme", "r1")?.sandbox_id).toBe("sb_a");
      expect(tx.liveSandboxes().map((record) => record.sandbox_id)).toEqual(["sb_a"]);
      expect(tx.openExecs("sb_a").map((record) => record.exec_id)).toEqual(["ex_2"]);
      expect(tx.exec("sb_a", "ex_1")?.completed).toEqual(completed);
    });
  });

  it("never lets a sandbox's sequence go back with an older copy of its record", async () => {
    const store = await newStore();
    const record = sandboxRecord("sb_a");
    await store.write((tx) => {
      tx.putSandbox(record);
      tx.emit("sb_a", execStarted("ex_1"));
      tx.putSandbox({ ...record, last_command: "ls" });
      tx.emit("sb_a", execStarted("ex_2"));
    });
    await store.write((tx) => tx.putSandbox({ ...record, sequence: 99 }));
    expect(store.sandbox("sb_a")?.sequence).toBe(2);
    const { sequence } = await store.write((tx) => tx.emit("sb_a", execStarted("ex_3")));
    expect(sequence).toBe(3);
  });
});

describe("names and requests", () => {
  it("gives a name to one live sandbox of a tenant, and frees it at the end", async () => {
    const store = await newStore();
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a", { name: "web" })));
    const second = sandboxRecord("sb_b", { name: "web" });
    await expect(store.write((tx) => tx.putSandbox(second))).rejects.toMatchObject({ code: "CONFLICT" });
    await store.write((tx) => tx.putSandbox({ ...second, sandbox_id: "sb_c", tenant: "other" }));
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a", { name: "web", state: "ended" })));
    await store.write((tx) => tx.putSandbox(second));
    expect(store.sandboxByName("acme", "web")?.sandbox_id).toBe("sb_b");
    expect(store.sandboxByName("other", "web")?.sandbox_id).toBe("sb_c");
  });

  it("keeps what looks alike apart, whatever names are made of", async () => {
    const store = await newStore();
    const names = ["a/b", "a", "a\u0000", "ä", "🦜".repeat(64), "x".repeat(5000), "#1", "../..", "\ud800"];
    await store.write((tx) => {
      for (const [i, name] of names.entries()) tx.putSandbox(sandboxRecord(`sb_${i}`, { name, request_id: name }));
      tx.putSandbox(sandboxRecord("sb_t", { tenant: "acme/a", name: "b" }));
    });
    expect(names.map((name) => store.sandboxByName("acme", name)?.sandbox_id)).toEqual(names.map((_, i) => `sb_${i}`));
    expect(store.sandboxByName("acme", "a/b")?.sandbox_id).toBe("sb_0");
    expect(store.sandbox("x".repeat(10_000))).toBeUndefined();
    expect(store.journal.after(0, { limit: 1, sandboxId: "x".repeat(10_000) })).toEqual([]);
  });

  it("remembers a request after its sandbox ended; the newest to ask owns it", async () => {
    const store = await newStore();
    const first = sandboxRecord("sb_a", { request_id: "r", state: "failed" });
    await store.write((tx) => tx.putSandbox(first));
    expect(await store.write((tx) => tx.sandboxByRequest("acme", "r")?.sandbox_id)).toBe("sb_a");
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_b", { request_id: "r" })));
    await store.write((tx) => tx.putSandbox({ ...first, last_command: "late" }));
    expect(await store.write((tx) => tx.sandboxByRequest("acme", "r")?.sandbox_id)).toBe("sb_b");
  });
});

describe("lists", () => {
  it("come newest first, go on after a given sandbox, and leave out the ended", async () => {
    const store = await newStore();
    const ids = Array.from({ length: 250 }, (_, i) => `sb_${String(i).padStart(3, "0")}`);
    await store.write((tx) => {
      for (const [i, id] of ids.entries()) {
        const created_at = new Date(Date.UTC(2026, 0, 1) + Math.floor(i / 2) * 1000).toISOString();
        tx.putSandbox(sandboxRecord(id, { created_at, state: i % 3 === 0 ? "ended" : "running" }));
      }
      tx.putSandbox(sandboxRecord("sb_other", { tenant: "other" }));
    });
    const list = (includeEnded: boolean, beforeKey?: string) =>
      Array.from(
        store.sandboxes({ tenant: "acme", includeEnded, ...(beforeKey !== undefined && { beforeKey }) }),
        (record) => record.sandbox_id,
      );
    const newestFirst = ids.toReversed();
    expect(list(true)).toEqual(newestFirst);
    expect(list(true, "sb_100")).toEqual(newestFirst.slice(150));
    expect(list(false)).toEqual(newestFirst.filter((id) => Number(id.slice(3)) % 3 !== 0));
    expect(list(false, "sb_004")).toEqual(["sb_002", "sb_001"]);
    expect(() => list(true, "sb_unknown")).toThrow("cursor");
    expect(() => list(true, "sb_other")).toThrow("cursor");
  });

  it("give a sandbox's execs newest first", async () => {
    const store = await newStore();
    await store.write((tx) => {
      for (let i = 0; i < 5; i++) {
        tx.putExec(execRecord("sb_a", `ex_${i}`, { started_at: new Date(i * 1000).toISOString() }));
      }
      tx.putExec(execRecord("sb_ab", "ex_9"));
    });
    expect(store.execs("sb_a", 3).map((record) => record.exec_id)).toEqual(["ex_4", "ex_3", "ex_2"]);
    expect(store.openExecs("sb_a")).toHaveLength(5);
    expect(store.exec("sb_ab", "ex_9")?.command).toBe("true");
  });

  it("stand in the order they were told of, whatever their times say, behind those that an older version kept", async () => {
    const store = await newStore();
    const at = (second: number) => ({ started_at: new Date(second * 1000).toISOString() });
    const kept = [
      execRecord("sb_a", "ex_old", at(2)),
      execRecord("sb_a", "ex_1", { ...at(9), ordinal: 1 }),
      execRecord("sb_a", "ex_2", { ...at(1), ordinal: 2 }),
    ];
    for (const record of kept) await store.write((tx) => tx.putExec(record));
    for (const record of kept) await store.write((tx) => tx.putExec({ ...record, completed }));
    expect(store.execs("sb_a", 9).map((record) => record.exec_id)).toEqual(["ex_2", "ex_1", "ex_old"]);
  });

  it("forget the oldest ended execs of a sandbox, never one that runs", async () => {
    const store = await newStore({ keptExecs: 10 });
    const at = (second: number) => ({ started_at: new Date(second * 1000).toISOString() });
    for (let i = 0; i < 40; i++) {
      await store.write((tx) => {
        tx.putSandbox(sandboxRecord("sb_a", { execs_total: i }));
        tx.putExec(execRecord("sb_a", `ex_${i}`, at(i)));
        // The first one runs on.
        if (i > 0) tx.putExec(execRecord("sb_a", `ex_${i}`, { ...at(i), completed }));
      });
    }
    const kept = store.execs("sb_a", 100).map((record) => record.exec_id);
    expect(kept).toEqual([...Array.from({ length: 9 }, (_, i) => `ex_${39 - i}`), "ex_0"]);
    expect(store.exec("sb_a", "ex_20")).toBeUndefined();
    expect(store.openExecs("sb_a").map((record) => record.exec_id)).toEqual(["ex_0"]);
  });
});
