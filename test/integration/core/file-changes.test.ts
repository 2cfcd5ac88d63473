import { setTimeout as delay } from "node:timers/promises";
import { expect, it, vi } from "vitest";
import { isNews as news } from "../../../src/sandbox/asked.ts";
import { newChangeId, newExecId } from "../../../src/sandbox/ids.ts";
import { drainFacts } from "../../../src/sandbox/ingest.ts";
import { settleDeath } from "../../../src/sandbox/settle.ts";
import { call, entries, fakeOf, recordOf, story, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const writer =
  (process: TestProcess, id: string) =>
  (path: string, content = "x") =>
    process.service.fileWrite(id, [{ path, content }], call);

/** Paths of all changes told, event by event. */
const paths = (process: TestProcess, id: string): string[][] =>
  told(process.store, id, "file.changed").map(({ changes }) => (changes as { path: string }[]).map(({ path }) => path));

it("changed files are told at once, then together; a destroy hurries the rest, and nothing follows the end", async () => {
  const process = await new World().process();
  const id = await process.create();
  const write = writer(process, id);
  await write("a");
  await eventually("the first is told", () => paths(process, id).length === 1);
  await write("b");
  await write("c", "1");
  await write("c", "123");
  await process.service.destroy(id, call);
  expect(told(process.store, id, "file.changed")).toMatchObject([
    { changes: [{ path: "a", op: "create", size_bytes: 1 }] },
    {
      changes: [
        { path: "b", op: "create" },
        { path: "c", op: "create", size_bytes: 3 },
      ],
    },
  ]);
  expect(story(process.store, id).at(-1)).toBe("lifecycle.destroyed");
});

it("what follows within a second is told by the keeper, whoever changed it", async () => {
  const world = new World();
  const [process, other] = [await world.process(), await world.process()];
  await other.keep();
  const id = await process.create();
  await writer(process, id)("a");
  await eventually("the first is told", () => paths(other, id).length === 1);
  for (const path of ["b", "c"]) await writer(process, id)(path);
  await eventually("all are told", () => paths(other, id).flat().length === 3);
  expect(paths(other, id)).toEqual([["a"], ["b", "c"]]);
});

it("stand before what came after them, and a call that tells something else takes them along", async () => {
  const process = await new World().process();
  await process.keep();
  const id = await process.create();
  const write = writer(process, id);
  await write("a");
  await eventually("the first is told", () => paths(process, id).length === 1);
  await write("b");
  await process.exec(id, "true");
  await write("c");
  await process.exec(id, "true");
  expect(story(process.store, id).slice(2)).toEqual([
    "file.changed",
    ...["file.changed", "exec.started", "exec.completed"],
    ...["file.changed", "exec.started", "exec.completed"],
  ]);
  expect(paths(process, id)).toEqual([["a"], ["b"], ["c"]]);
});

it("something else that the guest tells meanwhile is told at once, after them", async () => {
  const process = await new World().process();
  await process.keep();
  const id = await process.create();
  const write = writer(process, id);
  await process.service.execRun(id, { command: "sleep 0.3", wait_s: 0 }, call);
  await write("a");
  await eventually("the first is told", () => paths(process, id).length === 1);
  const since = performance.now();
  await write("b");
  await eventually("the end is told", () => story(process.store, id).includes("exec.completed"));
  expect(performance.now() - since).toBeLessThan(900);
  expect(story(process.store, id).slice(-2)).toEqual(["file.changed", "exec.completed"]);
});

it.each(["before", "after"])(
  "changed files are told %s the process that changed them is gone, by whoever tells of the death",
  async (when) => {
    const world = new World();
    const [process, other] = [await world.process(), await world.process()];
    const id = await process.create();
    for (const path of ["a", "b", "c"]) await writer(process, id)(path);
    // As a killed process does it: what it has in memory goes.
    if (when === "after") await process.core.connections[Symbol.asyncDispose]();
    process.backend.hooks.lastWords = () => new Promise(() => {});
    world.engine.crash(id);
    await settleDeath(other.core, id, await other.backend.status(id));
    expect(paths(other, id).flat()).toEqual(["a", "b", "c"]);
    expect(story(other.store, id).slice(-2)).toEqual(["lifecycle.died", "lifecycle.destroyed"]);
  },
);

it("are found at the guest by the next process when the last one was killed", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const write = writer(process, id);
  await write("a");
  await eventually("the first is told", () => paths(process, id).length === 1);
  await write("b");
  await process.core.connections[Symbol.asyncDispose]();
  const next = await world.process();
  await next.keep();
  await eventually("the rest is told", () => paths(next, id).length === 2);
  expect(paths(next, id)).toEqual([["a"], ["b"]]);
});

it("changed files are told by a closing server before it waits for anything", async () => {
  const process = await new World().process();
  const id = await process.create();
  const write = writer(process, id);
  for (const path of ["a", "b"]) await write(path);
  await process.service[Symbol.asyncDispose]();
  expect(paths(process, id).flat()).toEqual(["a", "b"]);
});

it("changed files without end are told once a second", async () => {
  const process = await new World().process();
  await process.keep();
  const id = await process.create();
  const begun = performance.now();
  let written = 0;
  for (; performance.now() - begun < 2_300; written++) {
    await writer(process, id)(`f${written}`);
    await delay(20);
  }
  await eventually("all are told", () => paths(process, id).flat().length === written);
  const events = paths(process, id).length;
  expect(events).toBeGreaterThan(1);
  // One at once, and then one for each second begun, on a machine however slow.
  expect(events).toBeLessThanOrEqual(Math.ceil((performance.now() - begun) / 1000) + 1);
});

it("changed files with endless names are cut to what an event holds", async () => {
  const process = await new World().process();
  const id = await process.create();
  const files = Array.from({ length: 300 }, (_, i) => ({ path: `${i}-${"n".repeat(200)}`, content: "" }));
  await process.service.fileWrite(id, files, call);
  await eventually("it is told", () => told(process.store, id, "file.changed").length === 1);
  const [entry] = entries(process.store, id).filter(({ type }) => type === "file.changed");
  expect(Buffer.byteLength(JSON.stringify(entry))).toBeLessThan(48 * 1024);
  const { changes, omitted } = entry?.data ?? {};
  expect((changes as unknown[]).length + Number(omitted)).toBe(300);
});

it("a captured guest tells of no change that no server asked for, and of none again without end", async () => {
  const world = new World();
  const process = await world.process();
  const { store } = process;
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  const changes = [{ path: "made-up", op: "create", size_bytes: 1 }];
  const execId = newExecId(store.installId, 0);
  for (const change_id of ["ch_1", newChangeId("another install", 0), execId, execId.replace("ex_", "ch_")]) {
    guest.facts.add("files", { change_id, changes });
  }
  await process.exec(id, "true");
  expect(paths(process, id)).toEqual([]);
  // Of one that a server asked for it tells once, whatever it tells in between.
  const known = newChangeId(store.installId, 0);
  for (let i = 0; i < 200; i++) {
    guest.facts.add("files", { change_id: known, changes });
    guest.facts.add(i % 2 ? "paused" : "resumed", { change_id: known });
    guest.facts.add("of tomorrow");
  }
  await drainFacts(process.core, id, await process.core.connections.guest(id), AbortSignal.timeout(10_000));
  expect(paths(process, id)).toEqual([["made-up"]]);
  const byAgents = entries(store, id).filter(({ data }) => (data["actor"] as { kind: string }).kind === "agent");
  expect(byAgents.map(({ type }) => type)).not.toContain("lifecycle.paused");
  // A true one of a server is still heard.
  await process.service.update(id, { paused: false }, call);
  await writer(process, id)("true");
  await process.exec(id, "true");
  expect(paths(process, id).at(-1)).toEqual(["true"]);
});

it("a change that is told again long after is known, as is one that was told a moment ago", async () => {
  const process = await new World().process();
  const id = await process.create();
  const { store } = process;
  const early = newChangeId(store.installId, 0);
  const isNews = (change: string, told: number) =>
    store.write((tx) => {
      const record = { ...recordOf(store, id), changes: { told } };
      return news(process.core, tx, record, { change_id: change });
    });
  expect([await isNews(early, 0), await isNews(early, 1)]).toEqual([true, false]);
  // What is too old to be news is not remembered any more.
  for (let told = 1_600; told < 1_610; told++)
    expect(await isNews(newChangeId(store.installId, told), told)).toBe(true);
  expect(await isNews(early, 1_610)).toBe(false);
  expect(await isNews(newChangeId(store.installId, 200), 1_610)).toBe(true);
});

it("a guest that has more to tell than an answer holds is read in parts, and holds up no command", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  const long = Array.from({ length: 200 }, (_, i) => ({ path: `${i}`.padEnd(40, "x"), op: "write", size_bytes: 1 }));
  const count = 300;
  for (let i = 0; i < count; i++) {
    const changes = long.map((change) => ({ ...change, path: `${i}/${change.path}` }));
    guest.facts.add("files", { change_id: newChangeId(process.store.installId, 0), changes });
  }
  expect((await process.exec(id, "echo fine")).stdout).toBe("fine\n");
  await process.keep();
  await eventually("all is read", () => recordOf(process.store, id).fact_cursor >= count);
  const told = entries(process.store, id).filter(({ type }) => type === "file.changed");
  const files = told.flatMap(({ data }) => [(data["changes"] as unknown[]).length, Number(data["omitted"] ?? 0)]);
  expect(files.reduce((sum, n) => sum + n, 0)).toBe(count * long.length);
});

it("the end of a command that the guest's log has lost while changes gathered is told all the same", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  await writer(process, id)("a");
  await eventually("the first is told", () => paths(process, id).length === 1);
  await process.service.execRun(id, { command: "sleep 0.2", wait_s: 0 }, call);
  await writer(process, id)("b");
  const guest = await process.core.connections.guest(id);
  const { facts } = fakeOf(world.engine, id).guest;
  // The reader has "b" and asks for what follows, which by then is more than the guest keeps.
  const read = guest.facts.bind(guest);
  let asked = 0;
  vi.spyOn(guest, "facts").mockImplementation(async (...args) => {
    if (++asked === 2) {
      await eventually("it has ended", () => fakeOf(world.engine, id).guest.runningExecs === 0);
      for (let i = 0; i < 1_100; i++) facts.add("of tomorrow");
    }
    return read(...args);
  });
  await process.keep();
  await eventually("its end is told", () => story(process.store, id).includes("exec.completed"));
});

it("a move of a file onto itself tells of no delete", async () => {
  const process = await new World().process();
  const id = await process.create();
  await writer(process, id)("a");
  await process.service.fileManage(id, { op: "move", path: "a", dest: "./a" }, call).catch(() => {});
  await process.service[Symbol.asyncDispose]();
  const changes = told(process.store, id, "file.changed").flatMap((event) => event["changes"] as { op: string }[]);
  expect(changes.map(({ op }) => op)).not.toContain("delete");
});
