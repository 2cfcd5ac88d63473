import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { newChangeId, newExecId } from "../../../src/sandbox/ids.ts";
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
  const known = newChangeId(store.installId, 0);
  for (let batch = 0; batch < 20; batch++) {
    for (let i = 0; i < 200; i++) guest.facts.add("files", { change_id: known, changes });
    await process.exec(id, "true");
  }
  // What is told goes on until the id is one of long ago, and then no more.
  const heard = paths(process, id).length;
  expect(heard).toBeGreaterThan(0);
  expect(heard).toBeLessThan(10);
  expect(recordOf(store, id).changes?.told).toBeLessThan(2_000);
  // A true one of a server is still heard.
  await writer(process, id)("true");
  await process.exec(id, "true");
  expect(paths(process, id).at(-1)).toEqual(["true"]);
});
