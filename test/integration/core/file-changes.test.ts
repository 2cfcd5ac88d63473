import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { settleDeath } from "../../../src/sandbox/settle.ts";
import { call, entries, gate, recordOf, story, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

it("changed files are told at once, then together; a destroy hurries the rest, and nothing follows the end", async () => {
  const process = await new World().process();
  const id = await process.create();
  const write = (path: string, content = "x") => process.service.fileWrite(id, [{ path, content }], call);
  await write("a");
  await eventually("the first is told", () => told(process.store, id, "file.changed").length === 1);
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

it("changed files before a death that this process sees are told before it", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  for (const path of ["a", "b"]) await process.service.fileWrite(id, [{ path, content: "x" }], call);
  world.engine.crash(id);
  await eventually("it has ended", () => recordOf(process.store, id).state === "ended");
  expect(story(process.store, id).slice(2)).toEqual([
    ...["file.changed", "file.changed", "lifecycle.died", "lifecycle.destroyed"],
  ]);
});

it("changed files after a death that another process told are not told any more", async () => {
  const world = new World();
  const [process, other] = [await world.process(), await world.process()];
  const id = await process.create();
  process.backend.hooks.lastWords = async () => {
    await eventually("it has ended", () => recordOf(other.store, id).state === "ended");
  };
  for (const path of ["a", "b"]) await process.service.fileWrite(id, [{ path, content: "x" }], call);
  world.engine.crash(id);
  await settleDeath(other.core, id, await other.backend.status(id));
  await process.service[Symbol.asyncDispose]();
  expect(story(process.store, id).slice(2)).toEqual(["file.changed", "lifecycle.died", "lifecycle.destroyed"]);
});

it("changed files are told by a closing server before it waits for anything, and at once after that", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const write = (path: string) => process.service.fileWrite(id, [{ path, content: "x" }], call);
  // Writes to the store keep their order: after this one, what was told before is there.
  const names = async () => {
    await process.store.write(() => {});
    const changes = told(process.store, id, "file.changed").flatMap(({ changes }) => changes as { path: string }[]);
    return changes.map(({ path }) => path);
  };
  const created = gate();
  process.backend.hooks.create = () => created.opened;
  const creating = process.create();
  await write("a");
  await write("b");
  const closing = process.service[Symbol.asyncDispose]();
  expect(await names()).toEqual(["a", "b"]);
  await write("c");
  await write("d");
  expect(await names()).toEqual(["a", "b", "c", "d"]);
  created.open();
  await Promise.all([closing, creating]);
});

it("changed files without end are told once a second", async () => {
  const process = await new World().process();
  const id = await process.create();
  const begun = performance.now();
  while (performance.now() - begun < 2_300) {
    await process.service.fileWrite(id, [{ path: "a", content: "x" }], call);
    await delay(20);
  }
  expect(told(process.store, id, "file.changed").length).toBeGreaterThan(1);
  expect(told(process.store, id, "file.changed").length).toBeLessThan(4);
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
