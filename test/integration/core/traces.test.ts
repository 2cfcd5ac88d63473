import { expect, it, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import type { Call } from "../../../src/sandbox/api.ts";
import { call, entries, recordOf, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

/** A call with a trace of its own. */
const traced = (digit: string): Call => ({
  ...call,
  traceparent: `00-${digit.repeat(32)}-${"f".repeat(16)}-01`,
});

/** Type and trace of each event after the creation's, in order; the trace by its digit. */
const traces = ({ store }: TestProcess, id: string) =>
  entries(store, id).map(({ type, traceparent }) => [type.split(".")[1], traceparent?.[3]]);

it("every event of a life carries the trace of the call that led to it", async () => {
  const process = await new World().process();
  const { service, store } = process;
  const { sandbox_id: id } = await service.create({}, traced("1"));
  await service.update(id, { paused: true }, traced("2"));
  await service.update(id, { paused: false, labels: { a: "b" } }, traced("3"));
  await service.execRun(id, { command: "true" }, traced("4"));
  await service.fileWrite(id, [{ path: "a", content: "" }], traced("5"));
  await eventually("the first file is told", () => told(store, id, "file.changed").length === 1);
  await service.fileWrite(id, [{ path: "b", content: "" }], traced("6"));
  await service.fileWrite(id, [{ path: "c", content: "" }], traced("7"));
  await service.destroy(id, traced("8"));
  expect(traces(process, id)).toEqual([
    ["created", "1"],
    ["ready", "1"],
    ["paused", "2"],
    ["resumed", "3"],
    ["updated", "3"],
    ["started", "4"],
    ["completed", "4"],
    ["changed", "5"],
    ["changed", "6"],
    ["died", "8"],
    ["destroyed", "8"],
  ]);
});

it("a creation that fails is told with its trace", async () => {
  const process = await new World().process();
  process.backend.hooks.create = () => {
    throw new SandboxError("INTERNAL", "No.");
  };
  await expect(process.service.create({}, traced("1"))).rejects.toMatchObject({ message: "No." });
  const [{ sandbox_id: id } = { sandbox_id: "" }] = process.store.sandboxes({ tenant: "default", includeEnded: true });
  expect(traces(process, id)).toEqual([
    ["created", "1"],
    ["failed", "1"],
  ]);
});

it("an end that another process brings about has the trace of who asked for it, and none when nobody did", async () => {
  const world = new World();
  const [asking, keeper] = [await world.process(), await world.process()];
  const [asked, crashed] = [await asking.create(), await asking.create()];
  await keeper.keep();
  world.engine.unreachable(true);
  await expect(asking.service.destroy(asked, traced("1"))).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
  await asking[Symbol.asyncDispose]();
  world.engine.unreachable(false);
  world.engine.crash(crashed);
  for (const id of [asked, crashed])
    await eventually("it has ended", () => recordOf(keeper.store, id).state === "ended");
  const ends = (trace?: string) => [
    ["died", trace],
    ["destroyed", trace],
  ];
  expect(traces(keeper, asked).slice(-2)).toEqual(ends("1"));
  expect(traces(keeper, crashed).slice(-2)).toEqual(ends());
});

it("a pause that another process reads of first is still told as of who asked", async () => {
  const world = new World();
  const [asking, keeper] = [await world.process(), await world.process()];
  await keeper.keep();
  const id = await asking.create();
  // The answer to who asked is journaled only after the keeper has told of it.
  const write = asking.store.write.bind(asking.store);
  for (const [paused, type, trace] of [
    [true, "lifecycle.paused", "1"],
    [false, "lifecycle.resumed", "2"],
  ] as const) {
    vi.spyOn(asking.store, "write").mockImplementation(async (plan) => {
      if (asking.core.connections.peek(id))
        await eventually("it is told", () => told(asking.store, id, type).length === 1);
      return write(plan);
    });
    await asking.service.update(id, { paused }, traced(trace));
    expect(told(asking.store, id, type)).toMatchObject([{ actor: { kind: "agent", client: call.client } }]);
    expect(traces(asking, id).at(-1)).toEqual([type.split(".")[1], trace]);
  }
});
