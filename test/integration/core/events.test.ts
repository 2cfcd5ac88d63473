import { describe, expect, it } from "vitest";
import type { EventsRequest } from "../../../src/sandbox/api.ts";
import type { JournalEntry, SandboxEvent } from "../../../src/sandbox/events.ts";
import { sandboxEvents } from "../../../src/tools/sandbox-events.ts";
import { call, entries, type TestProcess, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";
import { turnBack } from "../../support/store.ts";

const types = (events: Record<string, unknown>[]) => events.map(({ type }) => type);

/** Everything after a cursor, page by page. */
async function paged(process: TestProcess, request: EventsRequest) {
  const pages: Record<string, unknown>[][] = [];
  for (let after = request.after ?? "start"; ; ) {
    const { events, next_cursor } = await process.service.events({ ...request, after }, call);
    if (events.length === 0) return pages;
    pages.push(events);
    after = next_cursor;
  }
}

/** Journal entries of one sandbox with so many bytes each. */
async function fill(process: TestProcess, id: string, count: number, bytes: number) {
  await process.store.write((tx) => {
    for (let i = 0; i < count; i++) {
      tx.emit(id, {
        type: "exec.started",
        data: { exec_id: `ex_${i}`, command: `${i} `.padEnd(bytes, "x"), cwd: "/workspace", tty: false },
        actor: { kind: "agent" },
      });
    }
  });
}

it("pages give each event once, whatever ends a page: limit or size", async () => {
  const process = await new World().process();
  const id = await process.create();
  await fill(process, id, 90, 10);
  await fill(process, id, 20, 9_000);
  const all = entries(process.store, id).map(({ cursor }) => String(cursor));
  for (const [limit, format] of [[7], [200], [200, "cloudevents"]] as const) {
    const pages = await paged(process, { sandbox_id: id, limit, ...(format && { format }) });
    expect(pages.flat().map(({ cursor }) => String(cursor))).toEqual(all);
    for (const page of pages) {
      expect(page.length).toBeLessThanOrEqual(limit);
      expect(Buffer.byteLength(JSON.stringify(page))).toBeLessThan(60 * 1024);
    }
  }
});

it("one event too large for a page still comes, and so does what follows", async () => {
  const process = await new World().process();
  const id = await process.create();
  await fill(process, id, 1, 100_000);
  await fill(process, id, 2, 10);
  const pages = await paged(process, { sandbox_id: id });
  expect(pages.flat()).toHaveLength(5);
  expect(pages.flat()[2]).toMatchObject({ truncated: ["command"] });
});

describe("while another process that opens the store hides the newest commit", () => {
  const updated: SandboxEvent = { type: "lifecycle.updated", data: { changed: {} }, actor: { kind: "agent" } };

  it("no cursor passes it", async () => {
    const world = new World();
    const process = await world.process();
    const [one, two] = [await process.create(), await process.create()];
    const ask = (after: string) => process.service.events({ types: [updated.type], after }, call);
    const { next_cursor } = await process.service.events({}, call);
    await fill(process, two, 2_000, 1);
    await process.store.write((tx) => tx.emit(one, updated));
    const paging = ask(next_cursor);
    turnBack(await world.dataDir());
    const hidden = await paging;
    expect(hidden.events).toEqual([]);
    await process.store.write(() => {});
    expect((await ask(hidden.next_cursor)).events).toHaveLength(1);
  });

  it("a cursor of an earlier answer is still one of this journal", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    await process.store.write((tx) => tx.emit(id, updated));
    const { next_cursor } = await process.service.events({}, call);
    turnBack(await world.dataDir());
    await eventually("it is hidden", () => process.store.journal.newest() < Number(next_cursor));
    expect(await process.service.events({ after: next_cursor }, call)).toEqual({ events: [], next_cursor });
  });
});

it("filters by sandbox, exec, type and domain", async () => {
  const process = await new World().process();
  const [one, two] = [await process.create(), await process.create({ name: "two" })];
  const { exec_id } = await process.exec(one, "true");
  await process.exec(one, "true");
  await process.exec(two, "true");
  const ask = async (request: EventsRequest) =>
    types((await process.service.events({ after: "start", limit: 200, ...request }, call)).events);
  expect(await ask({ sandbox_id: "two" })).toEqual([
    ...["lifecycle.created", "lifecycle.ready", "exec.started", "exec.completed"],
  ]);
  expect(await ask({ exec_id })).toEqual(["exec.started", "exec.completed"]);
  expect(await ask({ types: ["exec.started"] })).toHaveLength(3);
  expect(await ask({ types: ["exec", "lifecycle.ready"] })).toHaveLength(8);
  expect(types((await process.service.events({ types: ["lifecycle"], limit: 2 }, call)).events)).toEqual([
    ...["lifecycle.created", "lifecycle.ready"],
  ]);
  await expect(ask({ types: ["exec.begun"] })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(ask({ after: "yesterday" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(ask({ sandbox_id: "nobody" })).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
});

it("a filter that skips thousands finds what is behind them, both ways", async () => {
  const process = await new World().process();
  const id = await process.create();
  await fill(process, id, 3_000, 1);
  await process.service.update(id, { labels: { a: "b" } }, call);
  await fill(process, id, 3_000, 1);
  for (const after of ["start", undefined]) {
    const found = await process.service.events({ types: ["lifecycle.updated"], ...(after && { after }) }, call);
    expect(types(found.events)).toEqual(["lifecycle.updated"]);
  }
});

it("cursors: now waits for what comes, one beyond the newest is told and is the newest, a silent wait moves on", async () => {
  const process = await new World().process();
  const [one, two] = [await process.create(), await process.create()];
  const newest = String(process.store.journal.newest());
  const ask = (request: EventsRequest) => process.service.events(request, call);
  expect(await ask({ after: "now" })).toEqual({ events: [], next_cursor: newest });
  const gap = expect.stringContaining(`ends at ${newest}, before the cursor 999999`);
  expect(await ask({ after: "999999" })).toEqual({ events: [], next_cursor: newest, gap });
  expect((await ask({})).next_cursor).toBe(newest);
  await process.exec(two, "true");
  const { events, next_cursor } = await ask({ after: newest, sandbox_id: one });
  expect([events, Number(next_cursor)]).toEqual([[], process.store.journal.newest()]);
});

it("a wait ends with what another process commits, and with its own cancel", async () => {
  const world = new World();
  const [one, two] = [await world.process(), await world.process()];
  const id = await two.create();
  const waiting = one.service.events({ sandbox_id: id, after: "now", types: ["exec.completed"], wait_s: 30 }, call);
  await two.exec(id, "true");
  expect(types((await waiting).events)).toEqual(["exec.completed"]);
  const stop = new AbortController();
  const cancelled = one.service.events({ after: "now", wait_s: 30 }, { ...call, signal: stop.signal });
  stop.abort();
  await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
});

it("what is no longer kept is said", async () => {
  const process = await new World().process();
  const id = await process.create();
  const { journal } = process.store;
  Object.assign(journal, { oldest: () => 2 });
  expect(await process.service.events({ sandbox_id: id, after: "0" }, call)).toMatchObject({
    gap: expect.stringContaining("no longer kept"),
  });
  expect(await process.service.events({ sandbox_id: id, after: "1" }, call)).not.toHaveProperty("gap");
});

it("what NATS does not take is said as well, with whatever is asked", async () => {
  const process = await new World().process();
  Object.assign(process.core, { undelivered: () => "NATS has not taken the events after 1 yet." });
  await process.create();
  for (const request of [{}, { after: "start" }])
    expect((await process.service.events(request, call)).gap).toContain("NATS has not taken");
  Object.assign(process.store.journal, { oldest: () => 2 });
  expect((await process.service.events({ after: "0" }, call)).gap).toMatch(/no longer kept.*NATS has not taken/);
});

it("listeners hear each entry once and in order, of their tenant, also thousands at once", async () => {
  const world = new World();
  const [one, two] = [await world.process(), await world.process()];
  const heard: JournalEntry[] = [];
  const stop = one.service.onEvents((batch) => heard.push(...batch));
  const id = await two.create();
  await Promise.all([fill(two, id, 2_300, 1), fill(one, id, 1_700, 1), two.exec(id, "true")]);
  await eventually("all were heard", () => heard.length >= 4_004);
  expect(heard.map(({ cursor }) => cursor)).toEqual(entries(two.store, id).map(({ cursor }) => cursor));
  stop();
  await two.exec(id, "true");
  expect(heard).toHaveLength(4_004);
});

it("tenants neither see nor hear each other", async () => {
  const world = new World();
  const [one, two] = [await world.process({ tenant: "one" }), await world.process({ tenant: "two" })];
  const heard: JournalEntry[] = [];
  two.service.onEvents((batch) => heard.push(...batch));
  const theirs = await one.create({ name: "mine" });
  const own = await two.create({ name: "mine" });
  await eventually("its own were heard", () => heard.length === 2);
  expect(new Set(heard.map(({ sandbox_id }) => sandbox_id))).toEqual(new Set([own]));
  const seen = (await two.service.events({ after: "start" }, call)).events;
  expect(new Set(seen.map(({ sandbox_id }) => sandbox_id))).toEqual(new Set([own]));
  await expect(two.service.get(theirs, {}, call)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  await expect(two.service.destroy(theirs, call)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  expect((await two.service.list({ include_ended: true }, call)).sandboxes).toHaveLength(1);
});

it("an event larger than any answer is cut, and what is behind it is read", async () => {
  const process = await new World().process();
  const env = Object.fromEntries(Array.from({ length: 255 }, (_, i) => [`K${"x".repeat(120)}${i}`, "v"]));
  const id = await process.create({ env });
  await process.service.update(id, { env: { ONE_MORE: "v" } }, call);
  await process.exec(id, "true");
  for (const format of ["compact", "cloudevents"] as const) {
    const seen: unknown[] = [];
    for (let after = "start", more = true; more; ) {
      const { structuredContent } = await sandboxEvents.run(
        { sandbox_id: id, after, limit: 1, wait_s: 0, format },
        call,
        async () => process.service,
      );
      const { events, next_cursor } = structuredContent as Awaited<ReturnType<typeof process.service.events>>;
      seen.push(...events);
      more = events.length > 0;
      after = next_cursor;
    }
    expect(seen).toHaveLength(entries(process.store, id).length);
    const updated = seen.find((event) => (event as { type: string }).type === "lifecycle.updated") as Record<
      string,
      unknown
    >;
    expect(format === "compact" ? updated : updated["data"]).toMatchObject({ truncated: ["changed"] });
  }
});

it("the newest ones are the newest ones, also where an answer does not hold as many as were asked for", async () => {
  const process = await new World().process();
  const id = await process.create();
  await fill(process, id, 100, 2_000);
  const all = entries(process.store, id).map(({ cursor }) => String(cursor));
  const { events, next_cursor } = await process.service.events({ limit: 200 }, call);
  expect(events.length).toBeGreaterThan(10);
  expect(events.map(({ cursor }) => cursor)).toEqual(all.slice(-events.length));
  expect(next_cursor).toBe(all.at(-1));
});

it("an exec that no server of the install made is not waited for", async () => {
  const process = await new World().process();
  const wrong = process.service.events({ exec_id: "ex_1", after: "now", wait_s: 30 }, call);
  await expect(wrong).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
});
