import { expect, it, vi } from "vitest";
import { call, fakeOf, gate, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

it("a session is opened once for all who need it at the same time, and again after it broke", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  await process.core.connections.drop(id);
  const connect = vi.spyOn(process.backend, "connect");
  await Promise.all(Array.from({ length: 5 }, () => process.exec(id, "true")));
  expect(connect).toHaveBeenCalledTimes(1);
  world.engine.dropConnections(id);
  await Promise.all(Array.from({ length: 5 }, () => process.exec(id, "true")));
  expect(connect).toHaveBeenCalledTimes(2);
});

it("a session that is dropped while it opens is closed, and nobody is told of a loss", async () => {
  const process = await new World().process();
  const id = await process.create();
  const { connections } = process.core;
  await connections.drop(id);
  const lost: string[] = [];
  connections.onLost((sandboxId) => lost.push(sandboxId));
  const { opened, open } = gate();
  process.backend.hooks.connect = () => opened;
  const opening = connections.guest(id);
  await connections.drop(id);
  open();
  const guest = await opening;
  await guest.closed;
  expect(connections.peek(id)).toBeUndefined();
  expect(lost).toEqual([]);
});

it("one who stops waiting leaves the opening to the others", async () => {
  const process = await new World().process();
  const id = await process.create();
  await process.core.connections.drop(id);
  const { opened, open } = gate();
  process.backend.hooks.connect = () => opened;
  const stop = new AbortController();
  const cancelled = process.service.execRun(id, { command: "true" }, { ...call, signal: stop.signal });
  const waiting = process.exec(id, "echo there");
  await eventually("it opens", () => process.core.connections.peek(id) === undefined);
  stop.abort();
  await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
  open();
  expect((await waiting).stdout).toBe("there\n");
});

it("what cannot be opened is tried anew by the next call", async () => {
  const process = await new World().process();
  const id = await process.create();
  await process.core.connections.drop(id);
  process.backend.hooks.connect = () => {
    throw new Error("not now");
  };
  await expect(process.exec(id, "true")).rejects.toThrow("not now");
  process.backend.hooks = {};
  expect((await process.exec(id, "echo now")).stdout).toBe("now\n");
});

it("a guest that says it belongs to another sandbox is no session", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  await process.core.connections.drop(id);
  const { guest } = fakeOf(world.engine, id);
  const health = guest.health();
  guest.health = () => ({ ...health, sandbox_id: "sb_0000000000000000" });
  await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
  // Without its guest a sandbox can still be looked at and destroyed.
  expect((await process.service.get(id, {}, call)).state).toBe("running");
  expect((await process.service.destroy(id, call)).destroyed).toBe(true);
});
