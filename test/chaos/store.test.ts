import { spawnSync } from "node:child_process";
import { readFileSync, statfsSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { JournalEntry } from "../../src/sandbox/events.ts";
import { execStarted, newDataDir, newStore, StoreProcess, sandboxRecord, turnBack } from "../support/store.ts";

/** Repeats a question until it is answered with yes; the test's own time limit bounds it. */
async function until(question: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await question())) await delay(2);
}

describe("several processes", () => {
  it("lose nothing, double nothing and keep order while they are killed", { timeout: 60_000 }, async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const sandboxes = ["sb_a", "sb_b", "sb_c"];
    await store.write((tx) => {
      for (const id of sandboxes) tx.putSandbox(sandboxRecord(id));
    });
    type Ack = Pick<JournalEntry, "id" | "cursor" | "sequence"> & { exec: string };
    const acks: Ack[] = [];
    const seen: number[] = [];
    store.journal.onAppend(() => seen.push(store.journal.newest()));

    const life = async (name: string, rounds: number) => {
      for (let round = 0; round < rounds; round++) {
        const child = await StoreProcess.start({ dataDir });
        const before = acks.length;
        child.onNote = (note) => acks.push(note as Ack); // what store-worker.mjs notes in `flood`
        await child.ask("flood", { sandboxes, loops: 8, name: `${name}${round}` });
        await until(() => acks.length >= before + 300);
        await delay(Math.random() * 20); // any moment is as good as any other to be killed
        await child.kill();
      }
    };
    // One that writes now and then and lives through it all meets what the killed leave behind.
    let killing = true;
    const survivor = async () => {
      for (let n = 0; killing; n++) {
        const { id, cursor, sequence } = await store.write((tx) => {
          const record = tx.sandbox("sb_a") ?? sandboxRecord("sb_a");
          tx.putSandbox({ ...record, execs_total: record.execs_total + 1 });
          return tx.emit("sb_a", execStarted(`survivor-${n}`));
        });
        acks.push({ exec: `survivor-${n}`, id, cursor, sequence });
        await delay(5);
      }
    };
    const surviving = survivor();
    await Promise.all([life("x", 6), life("y", 6)]);
    killing = false;
    await surviving;

    const entries = store.journal.after(0, { limit: 1_000_000 });
    expect(acks.length).toBeGreaterThan(1500);
    expect(entries.length).toBeGreaterThanOrEqual(acks.length);
    expect(entries.map((entry) => entry.cursor)).toEqual(entries.map((_, i) => i + 1));
    expect(new Set(entries.map((entry) => entry.id)).size).toBe(entries.length);
    const byExec = new Map(entries.map((entry) => [entry.data["exec_id"], entry]));
    expect(byExec.size).toBe(entries.length);
    const lost = acks.filter(({ exec, id, cursor, sequence }) => {
      const kept = byExec.get(exec);
      return kept?.id !== id || kept.cursor !== cursor || kept.sequence !== sequence;
    });
    expect(lost).toEqual([]);
    for (const id of sandboxes) {
      const own = store.journal.after(0, { limit: 1_000_000, sandboxId: id });
      expect(own.map((entry) => entry.sequence)).toEqual(own.map((_, i) => i + 1));
      // State and journal committed together: each counted exec has its event.
      expect(store.sandbox(id)).toMatchObject({ execs_total: own.length, sequence: own.length });
    }
    await until(() => seen.at(-1) === entries.length);
    await store.prune();
    expect(store.processes.list()).toHaveLength(1);
  });

  it("agree on the install when all open a new data dir at once", async () => {
    const dataDir = await newDataDir();
    const children = await Promise.all([1, 2, 3].map(() => StoreProcess.start({ dataDir })));
    const opened = await Promise.all(children.map((child) => child.ask("open")));
    const store = await newStore({ dataDir });
    expect(opened).toEqual(opened.map(() => expect.objectContaining({ installId: store.installId })));
    const known = store.processes.list().map(({ process_id }) => process_id);
    const processes = [store, ...opened].map((each) => (each as { processId: string }).processId);
    expect(known.sort()).toEqual(processes.sort());
  });

  it("give a name to one of those who race for it", async () => {
    const dataDir = await newDataDir();
    const children = await Promise.all([1, 2, 3].map(() => StoreProcess.start({ dataDir })));
    for (let round = 0; round < 20; round++) {
      const results = await Promise.all(
        children.map((child, i) =>
          child.ask("put", { record: sandboxRecord(`sb_${round}_${i}`, { name: `name-${round}` }) }),
        ),
      );
      expect(results.filter((result) => result === true)).toHaveLength(1);
      expect(results.filter((result) => result !== true)).toEqual(
        Array(2).fill(expect.objectContaining({ code: "CONFLICT" })),
      );
    }
  });
});

describe("reads of one turn of the event loop", () => {
  it("are of one snapshot, whatever others commit meanwhile", async () => {
    const dataDir = await newDataDir();
    const { journal } = await newStore({ dataDir });
    const child = await StoreProcess.start({ dataDir });
    await child.ask("put", { record: sandboxRecord("sb_a") });
    await child.ask("flood", { sandboxes: ["sb_a"], loops: 8, name: "x" });
    for (let turn = 0; turn < 20; turn++) {
      const newest = journal.newest();
      for (const end = performance.now() + 10; performance.now() < end; );
      expect(journal.page(newest, { limit: 10 })).toEqual({ entries: [], upTo: newest });
      await until(() => journal.newest() > newest);
    }
  });
});

describe("a commit in the moment in which another process opens the store", () => {
  async function commitAndTurnBack() {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const other = await StoreProcess.start({ dataDir });
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a")));
    for (const exec of ["ex_1", "ex_2"]) await store.write((tx) => tx.emit("sb_a", execStarted(exec)));
    turnBack(dataDir);
    const told = () => store.journal.after(0, { limit: 100 }).map(({ data, cursor }) => [data["exec_id"], cursor]);
    await until(() => told().length === 1); // the fault is there
    return { dataDir, store, other, told };
  }

  it("is not undone by the next commit of the same process", async () => {
    const { store, told } = await commitAndTurnBack();
    const exec = (id: string) => store.write((tx) => tx.emit("sb_a", execStarted(id)));
    const entries = await Promise.all([exec("ex_3"), exec("ex_4")]);
    expect(entries.map(({ cursor }) => cursor)).toEqual([3, 4]);
    expect(told()).toEqual([1, 2, 3, 4].map((n) => [`ex_${n}`, n]));
  });

  it("is not undone by the next commit of another process", async () => {
    const { other, told } = await commitAndTurnBack();
    expect(await other.ask("emit", { sandbox: "sb_a", exec: "ex_3" })).toBe(3);
    await until(() => told().length === 3);
    expect(told()).toEqual([1, 2, 3].map((n) => [`ex_${n}`, n]));
  });

  it("is not taken for dropped, and who missed it is called again once it is there", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const { journal } = store;
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a")));
    const called: number[] = [];
    journal.onAppend(() => called.push(journal.newest()));
    for (const exec of ["ex_1", "ex_2"]) await store.write((tx) => tx.emit("sb_a", execStarted(exec)));
    await until(() => called.at(-1) === 2);
    turnBack(dataDir);
    await until(() => journal.newest() === 1);
    called.length = 0;
    expect(journal.page(1, { limit: 10 })).toEqual({ entries: [], upTo: 1 });
    // The first transaction of the process that opened the store.
    await store.write(() => {});
    await until(() => called.length > 0);
    expect(called).toEqual([2]);
    expect(journal.page(1, { limit: 10 })).toMatchObject({ entries: [{ cursor: 2 }], upTo: 2 });
  });
});

describe("the write lock", () => {
  it("held by a stopped process makes others give up in time; killed, it leaves nothing behind", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir, lockWaitMs: 300 });
    const child = await StoreProcess.start({ dataDir });
    child.ask("seize", { record: sandboxRecord("sb_a") }).catch(() => {});
    const stopped = () => / T /.test(readFileSync(`/proc/${child.child.pid}/stat`, "utf8"));
    await until(stopped);
    let ran = false;
    const late = store.write(() => {
      ran = true;
    });
    await expect(late).rejects.toMatchObject({ code: "TIMEOUT", message: expect.stringContaining("0.3 s") });
    expect(store.liveSandboxes()).toEqual([]);
    await child.kill();
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_b")));
    expect(ran).toBe(false);
    expect(store.liveSandboxes().map((record) => record.sandbox_id)).toEqual(["sb_b"]);
  });
});

describe("a role", () => {
  it("is free as soon as its holder is killed", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const child = await StoreProcess.start({ dataDir });
    expect(await child.ask("hold", { role: "keeper", staleMs: 3_600_000 })).toBe(true);
    expect(await store.roles.hold("keeper", 3_600_000)).toBe(false);
    expect(store.roles.holder("keeper")?.pid).toBe(child.child.pid);
    await child.kill();
    expect(store.roles.holder("keeper")).toBeUndefined();
    expect(await store.roles.hold("keeper", 3_600_000)).toBe(true);
  });

  it("leaves a holder that is stopped once it was silent for too long, and stays with the successor", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const child = await StoreProcess.start({ dataDir });
    const staleMs = 500;
    const since = performance.now();
    expect(await child.ask("hold", { role: "keeper", staleMs })).toBe(true);
    child.child.kill("SIGSTOP");
    await until(() => store.roles.hold("keeper", staleMs));
    expect(performance.now() - since).toBeGreaterThan(staleMs - 5);
    child.child.kill("SIGCONT");
    expect(await child.ask("hold", { role: "keeper", staleMs: 3_600_000 })).toBe(false);
    expect(store.roles.holder("keeper")?.process_id).toBe(store.processId);
  });
});

describe("the bell", () => {
  it("wakes listeners in other processes well before they would look by themselves", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    await store.write((tx) => tx.putSandbox(sandboxRecord("sb_a")));
    const child = await StoreProcess.start({ dataDir });
    let heard: (note: { at: string; newest: number }) => void = () => {};
    child.onNote = (note) => heard(note as { at: string; newest: number }); // what store-worker.mjs notes in `listen`
    await child.ask("listen");
    const delays: number[] = [];
    for (let i = 0; i < 30; i++) {
      const note = new Promise<{ at: string; newest: number }>((resolve) => (heard = resolve));
      const from = process.hrtime.bigint();
      const { cursor } = await store.write((tx) => tx.emit("sb_a", execStarted(`ex_${i}`)));
      const { at, newest } = await note;
      expect(newest).toBe(cursor);
      delays.push(Number(BigInt(at) - from) / 1e6);
    }
    // The safety poll alone would take 500 ms on average.
    const median = delays.toSorted((a, b) => a - b)[15];
    expect(median).toBeLessThan(100);
  });

  it("does not keep a process alive", async () => {
    const child = await StoreProcess.start({ dataDir: await newDataDir() });
    await child.ask("listen");
    const ended = new Promise((resolve) => child.child.once("exit", (code) => resolve(code)));
    await child.ask("let_go");
    expect(await ended).toBe(0);
  });
});

/** Root mounts in a namespace of its own; others need one of users for that, which not every machine allows. */
const namespaces = process.getuid?.() === 0 ? "-m" : "-Urm";

describe("a full disk", () => {
  /** A process whose data dir is a disk of its own. */
  async function onDisk(megabytes: number) {
    const { status, stderr } = spawnSync("unshare", [namespaces, "true"], { encoding: "utf8" });
    expect(status, `this test mounts a tmpfs: run it as root with CAP_SYS_ADMIN (${stderr})`).toBe(0);
    const dataDir = await newDataDir();
    const script = `mount -t tmpfs -o size=${megabytes}m,mode=700 tmpfs "$1"; shift; exec "$@"`;
    const child = await StoreProcess.start({ dataDir }, ["unshare", namespaces, "sh", "-c", script, "sh", dataDir]);
    // As it is from inside.
    const inside = `/proc/${child.child.pid}/root${dataDir}`;
    const freeMb = () => {
      const { bavail, bsize } = statfsSync(inside);
      return (bavail * bsize) / 2 ** 20;
    };
    return { child, dataDir, inside, freeMb };
  }

  it("refuses what does not fit, says which disk, and goes on once there is space", async () => {
    const { child, dataDir, freeMb } = await onDisk(16);
    await child.ask("put", { record: sandboxRecord("sb_a") });
    const emit = (command: string) => child.ask("emit", { sandbox: "sb_a", exec: "ex_1", command });
    let kept = 0;
    let refusal: unknown;
    while (refusal === undefined) {
      const outcome = await emit("x".repeat(50_000));
      if (typeof outcome === "number") kept = outcome;
      else refusal = outcome;
    }
    expect(refusal).toMatchObject({
      code: "LIMIT_EXCEEDED",
      message: expect.stringContaining(dataDir),
      next: expect.stringContaining("CHORUS_SANDBOX_DATA_DIR"),
      retryable: true,
    });
    expect(kept).toBeGreaterThan(10);
    expect(freeMb()).toBeGreaterThan(3);
    expect(await child.ask("newest")).toBe(kept);
    await child.ask("grow_disk", { dataDir, size: "32m" });
    expect(await emit("x".repeat(50_000))).toBe(kept + 1);
    expect(await child.ask("flushed")).toBe(true);
    expect(await child.ask("dispose")).toBe(true);
  });

  it("is never met by lmdb itself, however much is asked for at once", async () => {
    const { child, freeMb } = await onDisk(12);
    await child.ask("put", { record: sandboxRecord("sb_a") });
    const burst = await child.ask("burst", { sandbox: "sb_a", plans: 50, events: 256 });
    expect(burst).toEqual({ kept: expect.any(Number), refused: expect.any(Number) });
    expect(burst).not.toMatchObject({ kept: 0 });
    expect(burst).not.toMatchObject({ refused: 0 });
    expect(freeMb()).toBeGreaterThan(1);
  });

  it("takes what is necessary to the last byte", async () => {
    const { child, inside, freeMb } = await onDisk(16);
    await child.ask("put", { record: sandboxRecord("sb_a") });
    for (let n = 0; n < 20; n++) await child.ask("emit", { sandbox: "sb_a", exec: "ex_1", command: "x" });
    expect(() => writeFileSync(`${inside}/filler`, Buffer.alloc(16 * 2 ** 20))).toThrow(/ENOSPC/);
    expect(freeMb()).toBe(0);
    expect(await child.ask("emit", { sandbox: "sb_a", exec: "ex_2", command: "x" })).toMatchObject({
      code: "LIMIT_EXCEEDED",
    });
    const end = { sandbox: "sb_a", exec: "ex_2", command: "x".repeat(10_000), necessary: true };
    for (let n = 21; n < 121; n++) expect(await child.ask("emit", end)).toBe(n);
    expect(await child.ask("hold", { role: "keeper", staleMs: 1_000 })).toBe(true);
  });
});
