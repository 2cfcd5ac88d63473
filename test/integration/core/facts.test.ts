import { expect, it, vi } from "vitest";
import type { GuestFact } from "../../../src/sandbox/guest/types.ts";
import { newExecId, toldBefore } from "../../../src/sandbox/ids.ts";
import { drainFacts, ingest } from "../../../src/sandbox/ingest.ts";
import { abortable, deadline } from "../../../src/sandbox/wait.ts";
import { call, entries, ex, fakeOf, recordOf, story, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const startedAndEnded = ["exec.started", "exec.completed"];
const execStory = (process: TestProcess, id: string) =>
  story(process.store, id).filter((type) => type.startsWith("exec."));

async function guestOf(process: TestProcess, id: string) {
  return process.core.connections.guest(id);
}

/** Execs that nobody has told of yet: started behind the service's back. */
async function unread(process: TestProcess, id: string, ...execs: string[]) {
  const guest = await guestOf(process, id);
  for (const exec of execs) await guest.startExec(ex(process, exec), { command: "true" }, { wait_ms: 10_000 });
  return guest;
}

function fact(seq: number, fields: Partial<GuestFact> & Pick<GuestFact, "kind">): GuestFact {
  return { seq, at: "2026-01-01T00:00:00.000Z", ...fields } as GuestFact;
}
const started = (seq: number, exec_id: string) =>
  fact(seq, { kind: "exec.started", exec_id, command: "true", cwd: "/workspace", tty: false });
const ended = (seq: number, exec_id: string) =>
  fact(seq, {
    ...{ kind: "exec.ended", exec_id, status: "exited", exit_code: 0, signal: null, ended_by: "self", oom_kills: 0 },
    ...{ duration_ms: 1, stdout_bytes: 0, stderr_bytes: 0, omitted_bytes: 0 },
  });

it("an exec costs one commit, also while a keeper reads the same facts", async () => {
  const process = await new World().process();
  await process.keep({ timing: { sweepMs: 60_000, renewMs: 60_000, lingerMs: 1_000 } });
  const id = await process.create();
  await process.exec(id, "true");
  const writes = vi.spyOn(process.store, "write");
  for (let i = 0; i < 20; i++) await process.exec(id, "true");
  expect(writes).toHaveBeenCalledTimes(20);
  expect(execStory(process, id)).toEqual(Array.from({ length: 21 }, () => startedAndEnded).flat());
});

it("an answer that a command is over comes after its end was told, also behind more facts than one page has", async () => {
  const process = await new World().process();
  const id = await process.create();
  await unread(process, id, ...Array.from({ length: 200 }, (_, n) => `unread-${n}`));
  const { exec_id, status, event_cursor } = await process.exec(id, "true");
  expect(status).toBe("exited");
  const ends = told(process.store, id, "exec.completed");
  expect(ends).toHaveLength(201);
  const [end] = entries(process.store, id).filter(({ data }) => data["exec_id"] === exec_id && "status" in data);
  expect(end?.cursor).toBeLessThanOrEqual(Number(event_cursor));
});

it("the keeper tells of what nobody waits for", async () => {
  const process = await new World().process();
  await process.keep();
  const id = await process.create();
  await process.service.execRun(id, { command: "sleep 0.05", wait_s: 0 }, call);
  await eventually("the end is told", () => told(process.store, id, "exec.completed").length === 1);
});

it("the keeper follows sandboxes of other processes", async () => {
  const world = new World();
  const [keeper, other] = [await world.process(), await world.process()];
  await keeper.keep();
  const id = await other.create();
  await unread(other, id, "1");
  await eventually("the keeper told of it", () => execStory(other, id).length === 2);
});

it("facts count once when two processes read them, in either order and interleaved", async () => {
  const world = new World();
  const [one, two] = [await world.process(), await world.process()];
  const id = await one.create();
  const guest = await unread(one, id, "1", "2", "3");
  const all = await guest.facts(0, 0);
  const half = { ...all, facts: all.facts.slice(0, 3) };
  await Promise.all([
    ingest(one.core, id, half, guest),
    ingest(two.core, id, all, guest),
    ingest(one.core, id, all, guest),
    ingest(two.core, id, half, guest),
  ]);
  await ingest(one.core, id, half, guest);
  expect(execStory(one, id)).toEqual([...startedAndEnded, ...startedAndEnded, ...startedAndEnded]);
  expect(recordOf(two.store, id)).toMatchObject({ fact_cursor: 7, execs_total: 3 });
  expect(entries(two.store, id).map(({ sequence }) => sequence)).toEqual(entries(one.store, id).map((_, i) => i + 1));
});

it("execs whose ends left the guest's log are told from its list, or as lost, with the facts in one commit", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  const start = (exec: string, command: string) => guest.startExec(ex(process, exec), { command }, {});
  await start("runs", "sleep 600");
  await start("ended", "sleep 600");
  await start("forgotten", "sleep 600");
  await drainFacts(process.core, id, guest, deadline(1_000));
  await guest.killExec(ex(process, "ended"), { grace_ms: 0 });
  fakeOf(process.backend.host, id).guest.execs.delete(ex(process, "forgotten"));
  const { guest: fake } = fakeOf(process.backend.host, id);
  for (let i = 0; i < 1_100; i++) fake.facts.add("limit", { limit: "pids", observed: 1, max: 1 });

  const writes = vi.spyOn(process.store, "write");
  const facts = await guest.facts(recordOf(process.store, id).fact_cursor, 0);
  await ingest(process.core, id, facts, guest);
  expect(writes).toHaveBeenCalledTimes(1);
  expect(told(process.store, id, "exec.completed")).toMatchObject([
    { exec_id: ex(process, "ended"), status: "killed", ended_by: "kill" },
    { exec_id: ex(process, "forgotten"), status: "lost", exit_code: null },
  ]);
  expect(process.store.openExecs(id).map(({ exec_id }) => exec_id)).toEqual([ex(process, "runs")]);
});

it("an exec that starts while lost facts are looked into is not taken for ended", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  await guest.startExec(ex(process, "1"), { command: "sleep 600" }, {});
  await drainFacts(process.core, id, guest, deadline(1_000));
  const cursor = recordOf(process.store, id).fact_cursor;
  const late = Object.create(guest, {
    listExecs: {
      value: async () => {
        const execs = await guest.listExecs();
        await process.store.write((tx) => {
          const exec = tx.exec(id, ex(process, "1"));
          if (exec) tx.putExec({ ...exec, exec_id: "ex_2" });
        });
        return execs;
      },
    },
  });
  const facts = { facts: [fact(cursor + 9, { kind: "resumed" })], oldest: cursor + 9, next: cursor + 10 };
  await ingest(process.core, id, facts, late);
  expect(told(process.store, id, "exec.completed")).toEqual([]);
});

it("what a captured guest makes up stays its own and breaks nothing", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  const cursor = recordOf(process.store, id).fact_cursor;
  const lies = [
    ended(cursor + 1, "ex_never"),
    started(cursor + 2, ex(process, "twice")),
    started(cursor + 3, ex(process, "twice")),
    ended(cursor + 4, ex(process, "twice")),
    ended(cursor + 5, ex(process, "twice")),
    fact(cursor + 6, { kind: "lease.over", lease: "idle", at: "2026-99-99T99:99:99Z" }),
    { ...started(cursor + 7, ex(process, "future")), at: "9999-12-31T23:59:59Z" },
    fact(Number.MAX_SAFE_INTEGER - 1, { kind: "resumed" }),
  ];
  await ingest(process.core, id, { facts: lies, oldest: 1, next: Number.MAX_SAFE_INTEGER }, guest);
  expect(execStory(process, id)).toEqual(["exec.started", "exec.completed", "exec.started"]);
  const record = recordOf(process.store, id);
  expect(Date.parse(record.ending?.at ?? "")).toBeGreaterThan(Date.now() - 60_000);
  expect(Date.parse(record.last_used_at)).toBeLessThanOrEqual(Date.now());
  await process.service.destroy(id, call);
  expect(execStory(process, id)).toHaveLength(4);
  expect(story(process.store, id).at(-1)).toBe("lifecycle.destroyed");
});

it("a captured guest tells of no exec that no server started, and of the rest only so often", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  const known = ex(process, "known");
  await guest.startExec(known, { command: "sleep 600" }, {});
  await drainFacts(process.core, id, guest, deadline(1_000));
  const before = entries(process.store, id).length;
  let seq = recordOf(process.store, id).fact_cursor;
  const lie = async (make: (seq: number) => GuestFact[], times: number) => {
    const facts = Array.from({ length: times }, () => make(++seq)).flat();
    await ingest(process.core, id, { facts, oldest: 1, next: seq + 1 }, guest);
  };
  // Ids as they look, an id of another install, and one that was guessed at.
  const forged = [
    newExecId("another install", 0),
    `${known.slice(0, -1)}${known.endsWith("0") ? "1" : "0"}`,
    `ex_${"0".repeat(16)}`,
    "ex_1",
  ];
  for (const exec of forged) await lie((n) => [started(n, exec)], 100);
  for (const exec of forged) await lie((n) => [ended(n, exec)], 100);
  expect(entries(process.store, id)).toHaveLength(before);
  expect(process.store.execs(id, 1_000)).toHaveLength(1);

  await lie((n) => [fact(n, { kind: "oom", oom_kills: n, exec_id: forged[0] })], 600);
  await lie((n) => [fact(n, { kind: n % 2 ? "paused" : "resumed", change_id: forged[0] ?? "" })], 600);
  expect(entries(process.store, id)).toHaveLength(before + 1_000);
  await lie((n) => [fact(n, { kind: "lease.expiring", lease: "ttl", in_ms: 1 })], 1_100);
  expect(entries(process.store, id)).toHaveLength(before + 2_000);
  // Of an exec that it may speak of, each kind of limit once more.
  for (const limit of ["time", "output", "time", "output"] as const)
    await lie((n) => [fact(n, { kind: "limit", limit, observed: 1, max: 1, exec_id: known })], 100);
  expect(entries(process.store, id)).toHaveLength(before + 2_002);
  expect(told(process.store, id, "limit.oom")[0]).not.toHaveProperty("exec_id");
  // What servers do is told all the same.
  await process.service.update(id, { paused: recordOf(process.store, id).state !== "paused" }, call);
  await process.service.destroy(id, call);
  expect(story(process.store, id).slice(-2)).toEqual(["lifecycle.died", "lifecycle.destroyed"]);
  expect(entries(process.store, id)).toHaveLength(before + 2_006);
});

it("a captured guest that tells again of what is long forgotten is not heard", async () => {
  const process = await new World().process();
  const { store } = process;
  const id = await process.create();
  const guest = await guestOf(process, id);
  let seq = recordOf(store, id).fact_cursor;
  const tell = (ids: string[], minute: (i: number) => number) => {
    const facts = ids.flatMap((exec, i) => {
      const at = new Date(minute(i) * 60_000).toISOString();
      return [
        { ...started(++seq, exec), at },
        { ...ended(++seq, exec), at },
      ];
    });
    return ingest(process.core, id, { facts, oldest: 1, next: seq + 1 }, guest);
  };
  // In parts, as they are told; each started long before the one before it, if the guest is to be believed.
  const ids: string[] = [];
  while (ids.length < 3_000) {
    const part = Array.from({ length: 100 }, () => newExecId(store.installId, recordOf(store, id).execs_total));
    await tell(part, (i) => 10_000 - ids.length - i);
    ids.push(...part);
  }
  expect(recordOf(store, id).execs_total).toBe(3_000);
  expect(store.execs(id, 10_000).length).toBeLessThan(2_200);
  expect(store.execs(id, 1)[0]?.exec_id).toBe(ids.at(-1));
  const newest = store.journal.newest();
  for (let round = 0; round < 2; round++) await tell(ids, (i) => i);
  expect(store.journal.newest()).toBe(newest);
  // What servers start goes on being told, by the ids they make.
  const { exec_id } = await process.exec(id, "true");
  expect(toldBefore(exec_id)).toBe(3_000);
  await tell([exec_id], () => 0);
  expect(execStory(process, id)).toHaveLength(6_002);
});

it("a sandbox that lives long tells of each exec's limits and of its end, and that other limits are told no more", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  const warned = vi.spyOn(process.core.logger, "warn");
  let seq = recordOf(process.store, id).fact_cursor;
  const tell = (...facts: ((seq: number) => GuestFact)[]) =>
    ingest(process.core, id, { facts: facts.map((make) => make(++seq)), oldest: 1, next: seq + 1 }, guest);
  const count = (type: string) => told(process.store, id, type).length;
  const ids = Array.from({ length: 1_100 }, (_, i) => ex(process, `${i}`));
  await tell(
    ...ids.flatMap((exec_id) => [
      (n: number) => started(n, exec_id),
      (n: number) => fact(n, { kind: "limit", limit: "time", observed: 2, max: 1, exec_id }),
      (n: number) => ended(n, exec_id),
    ]),
  );
  expect(count("limit.reached")).toBe(1_100);
  expect(warned).not.toHaveBeenCalled();
  await tell(...ids.map(() => (n: number) => fact(n, { kind: "oom", oom_kills: n })));
  const { memory_mb } = recordOf(process.store, id).resources;
  expect(told(process.store, id, "limit.oom")[0]).toMatchObject({ kind: "memory", limit: memory_mb * 2 ** 20 });
  expect(count("limit.oom")).toBe(1_000);
  expect(warned.mock.calls).toEqual([[{ sandbox_id: id }, expect.stringContaining("unasked")]]);
  const victim = ex(process, "victim");
  await tell(
    (n) => started(n, victim),
    (n) => fact(n, { kind: "oom", oom_kills: 1, exec_id: victim }),
    (n) => fact(n, { kind: "lease.expiring", lease: "ttl", in_ms: 60_000 }),
  );
  expect(told(process.store, id, "limit.oom")[1_000]).toMatchObject({ exec_id: victim });
  expect(count("lifecycle.expiring")).toBe(1);
  expect(warned).toHaveBeenCalledOnce();
});

it("the end of an exec out of memory follows from the newest kill that nobody else has claimed", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  const [a, b, c] = [ex(process, "a"), ex(process, "b"), ex(process, "c")];
  let seq = recordOf(process.store, id).fact_cursor;
  const oom = (exec_id?: string) => (n: number) => fact(n, { kind: "oom", oom_kills: n, ...(exec_id && { exec_id }) });
  const outOfMemory = (exec_id: string) => (n: number) =>
    ({ ...ended(n, exec_id), status: "oom_killed", exit_code: null, ended_by: "oom", oom_kills: 1 }) as GuestFact;
  const facts = [
    ...[a, b, c].map((exec) => (n: number) => started(n, exec)),
    ...[oom(), oom(), oom(b), outOfMemory(b), outOfMemory(a), outOfMemory(c)],
  ].map((make) => make(++seq));
  await ingest(process.core, id, { facts, oldest: 1, next: seq + 1 }, guest);
  const all = entries(process.store, id);
  const idsOf = (type: string) => all.filter((entry) => entry.type === type).map((entry) => entry.id);
  const [, second, ofB] = idsOf("limit.oom");
  const startOfC = idsOf("exec.started")[2];
  expect(told(process.store, id, "exec.completed").map(({ exec_id, cause }) => [exec_id, cause])).toEqual([
    [b, ofB],
    [a, second],
    [c, startOfC],
  ]);
});

it("a guest that always answers at once is not asked all the time", async () => {
  const process = await new World().process();
  const id = await process.create();
  let asked = 0;
  fakeOf(process.backend.host, id).guest.facts.wait = async (after) => {
    asked += 1;
    return { facts: [], oldest: 1, next: after + 1 };
  };
  const begun = performance.now();
  await process.keep({ timing: { lingerMs: 0 } });
  await eventually("it was asked a third time", () => asked >= 3);
  // 200 ms of doubt, then 400.
  expect(performance.now() - begun).toBeGreaterThan(550);
});

it("a captured guest that always has one more fact, or none to give, does not keep a list of execs waiting", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await guestOf(process, id);
  await process.exec(id, "true");
  const facts = vi.spyOn(guest, "facts");
  const list = async () => expect((await process.service.execList(id, call)).execs).toHaveLength(1);
  const more = (next: (after: number) => number) =>
    facts.mockClear().mockImplementation(async (after) => ({
      ...{ facts: [fact(after + 1, { kind: "boot", version: "x" })], oldest: 1, next: next(after) },
    }));

  more((after) => after + 2);
  await list();
  expect(facts).toHaveBeenCalledTimes(1);

  more(() => 2 ** 50);
  await list();
  expect(facts.mock.calls.length).toBeLessThanOrEqual(5);

  facts.mockImplementation((_after, _wait, signal) => abortable(new Promise(() => {}), signal));
  const begun = performance.now();
  await list();
  expect(performance.now() - begun).toBeLessThan(4_000);
});

it("pause and its end are told once each, by whoever asked, however late the guest's facts are read", async () => {
  const process = await new World().process();
  const id = await process.create();
  const update = (paused: boolean) => process.service.update(id, { paused }, call);
  for (const paused of [true, true, false, false]) {
    expect((await update(paused)).state).toBe(paused ? "paused" : "running");
  }
  await expect(update(true).then(() => process.exec(id, "true"))).rejects.toMatchObject({
    code: "SANDBOX_NOT_RUNNING",
  });
  await update(false);
  await drainFacts(process.core, id, await guestOf(process, id), deadline(1_000));
  const pauses = entries(process.store, id).filter(({ type }) => /paused|resumed/.test(type));
  expect(pauses.map(({ type }) => type.split(".")[1])).toEqual(["paused", "resumed", "paused", "resumed"]);
  expect(new Set(pauses.map(({ data }) => JSON.stringify(data["actor"])))).toEqual(
    new Set(['{"kind":"agent","client":"tests/1"}']),
  );
});

it("execs whose starts left the guest's log unread are told all the same, once, and so are their ends", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const guest = await unread(process, id, "1");
  await guest.startExec(ex(process, "2"), { command: "sleep 0.3" }, { wait_ms: 0 });
  const { facts } = fakeOf(world.engine, id).guest;
  for (let i = 0; i < 1_100; i++) facts.add("oom", { oom_kills: i + 1 });
  await guest.startExec(ex(process, "3"), { command: "true" }, { wait_ms: 10_000 });
  // The start of this one is the oldest fact that is kept, and tells all it can.
  await guest.startExec(ex(process, "4"), { command: "sleep 600" }, { wait_ms: 0 });
  for (let i = 0; i < 1_023; i++) facts.add("of tomorrow");
  for (let page = 0; page < 3; page++) await drainFacts(process.core, id, guest, deadline(5_000));
  await guest.viewExec(ex(process, "2"), { until: "exit", wait_ms: 10_000 });
  await guest.killExec(ex(process, "4"), { signal: "KILL" });
  await drainFacts(process.core, id, guest, deadline(5_000));
  const execs = entries(process.store, id).flatMap(({ type, data }) =>
    type.startsWith("exec.") ? [`${type} ${data["exec_id"]}`] : [],
  );
  expect(execs.sort()).toEqual(
    ["1", "2", "3", "4"].flatMap((n) => startedAndEnded.map((type) => `${type} ${ex(process, n)}`)).sort(),
  );
  // The list that tells of them shows neither their words nor where they ran as facts do.
  expect(told(process.store, id, "exec.started").map(({ command, cwd }) => [command, cwd])).toEqual([
    ["", ""],
    ["", ""],
    ["", ""],
    ["sleep 600", "/workspace"],
  ]);
  expect((await process.service.execList(id, call)).execs).toHaveLength(4);
});
