import { describe, expect, it, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { inTurn } from "../../../src/sandbox/turns.ts";
import { call, fakeOf, gate, recordOf, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const limitsAt = (world: World, id: string) => fakeOf(world.engine, id).guest.options.limits;
const updates = (process: TestProcess, id: string) => told(process.store, id, "lifecycle.updated");
const grown = (to: number) => ({ changed: { resources: { old: { memory_mb: 512 }, new: { memory_mb: to } } } });
const unreachable = new SandboxError("BACKEND_UNAVAILABLE", "The engine did not answer.");

/** The engine gets the next update, and answers as told. */
function engineAnswers(process: TestProcess, answer: () => Promise<void>) {
  const update = process.backend.update.bind(process.backend);
  const spy = vi.spyOn(process.backend, "update");
  return spy.mockImplementationOnce(async (...args) => {
    await update(...args);
    await answer();
  });
}

describe("a step of an update that fails", () => {
  it("at the guest's env leaves the engine alone and gives the memory back", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    vi.spyOn(guest, "patchEnv").mockRejectedValueOnce(new SandboxError("INVALID_ARGUMENT", "It is too long."));
    const refused = process.service.update(id, { memory_mb: 1024, cpus: 2, env: { A: "long" } }, call);
    await expect(refused).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: "It is too long." });
    expect(limitsAt(world, id)).toMatchObject({ memory_mb: 512, cpus: 1 });
    expect(recordOf(process.store, id)).toMatchObject({ resources: { memory_mb: 512, cpus: 1 }, env_keys: [] });
    expect(recordOf(process.store, id)).not.toHaveProperty("growing_to_mb");
    expect(updates(process, id)).toEqual([]);
  });

  it("after the engine took its part tells of that part, in the store, the journal and the answer", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    vi.spyOn(guest, "setLease").mockRejectedValueOnce(new SandboxError("TIMEOUT", "It is silent."));
    const request = { memory_mb: 1024, env: { A: "1" }, ttl_s: 50, labels: { not: "yet" } };
    await expect(process.service.update(id, request, call)).rejects.toMatchObject({
      ...{ code: "TIMEOUT", retryable: true },
      message: "It is silent. Changed before that, and left so: env, memory_mb.",
    });
    expect(limitsAt(world, id).memory_mb).toBe(1024);
    expect(recordOf(process.store, id)).toMatchObject({
      ...{ resources: { memory_mb: 1024 }, env_keys: ["A"], ttl_s: 3600, labels: {} },
    });
    expect(updates(process, id)).toMatchObject([grown(1024)]);
    expect((await process.service.update(id, request, call)).labels).toEqual({ not: "yet" });
  });

  it("is not waited for when what there would be in the end is too much", async () => {
    const process = await new World().process();
    const env = (prefix: string) => Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`${prefix}${i}`, "x"]));
    const id = await process.create({ env: env("A") });
    await expect(process.service.update(id, { cpus: 2, env: env("B") }, call)).rejects.toMatchObject({
      ...{ code: "INVALID_ARGUMENT", message: expect.stringContaining("400 variables") },
    });
    expect(recordOf(process.store, id).resources.cpus).toBe(1);
  });
});

it("cancelling an update stops the wait: what the engine was asked is done and told, and its memory counted", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const stop = new AbortController();
  const over = gate();
  const asked = engineAnswers(process, () => {
    stop.abort();
    return over.opened;
  });
  const cancelled = process.service.update(id, { memory_mb: 4096 }, { ...call, signal: stop.signal });
  await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
  expect(recordOf(process.store, id).growing_to_mb).toBe(4096);
  over.open();
  await eventually("it is told", () => updates(process, id).length === 1);
  expect(asked.mock.calls[0]?.[2]).toBeUndefined();
  expect(updates(process, id)).toMatchObject([grown(4096)]);
  expect(recordOf(process.store, id)).toMatchObject({ resources: { memory_mb: 4096 } });
  expect(recordOf(process.store, id)).not.toHaveProperty("growing_to_mb");
});

it("an update that is cancelled before its turn does nothing", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const over = gate();
  engineAnswers(process, () => over.opened);
  const first = process.service.update(id, { cpus: 2 }, call);
  await eventually("it is at the engine", () => limitsAt(world, id).cpus === 2);
  const stop = new AbortController();
  const second = process.service.update(id, { cpus: 3 }, { ...call, signal: stop.signal });
  setImmediate(() => stop.abort());
  await expect(second).rejects.toMatchObject({ code: "ABORTED" });
  over.open();
  await first;
  await process.service.update(id, { ttl_s: 100 }, call);
  expect(limitsAt(world, id).cpus).toBe(2);
});

it.each(["one process", "two processes"])("updates of %s at once are done one after the other", async (who) => {
  const world = new World();
  const one = await world.process();
  const two = who === "one process" ? one : await world.process();
  const id = await one.create();
  const over = gate();
  engineAnswers(one, () => over.opened);
  const first = one.service.update(id, { memory_mb: 1024 }, call);
  await eventually("it is at the engine", () => limitsAt(world, id).memory_mb === 1024);
  const second = two.service.update(id, { memory_mb: 4096 }, call);
  await two.exec(id, "true");
  expect(limitsAt(world, id).memory_mb).toBe(1024);
  over.open();
  await Promise.all([first, second]);
  expect(limitsAt(world, id).memory_mb).toBe(4096);
  expect(recordOf(two.store, id).resources.memory_mb).toBe(4096);
  expect(updates(two, id)).toMatchObject([
    grown(1024),
    { changed: { resources: { old: { memory_mb: 1024 }, new: { memory_mb: 4096 } } } },
  ]);
});

it("an update does not wait for ever for one of a process that was stopped in the middle", async () => {
  const world = new World();
  const [stopped, other] = [await world.process(), await world.process()];
  const id = await stopped.create();
  const over = gate();
  engineAnswers(stopped, () => over.opened);
  const first = stopped.service.update(id, { cpus: 2 }, call);
  await eventually("it is at the engine", () => limitsAt(world, id).cpus === 2);
  const change = vi.fn(async () => {});
  await expect(inTurn(other.core, id, call.signal, change, 50)).rejects.toMatchObject({
    ...{ code: "TIMEOUT", retryable: true },
    message: "An update of the sandbox that came before did not end in time.",
  });
  await expect(inTurn(stopped.core, id, call.signal, change, 50)).rejects.toMatchObject({ code: "TIMEOUT" });
  over.open();
  await first;
  await other.service.update(id, { cpus: 3 }, call);
  expect(limitsAt(world, id).cpus).toBe(3);
  expect(change).not.toHaveBeenCalled();
});

describe("when the engine's answer is lost", () => {
  // Two of the default size, and room for one of them to grow by 500 MiB.
  const policy = { maxima: { memory_total_mb: 2 * (512 + 512 + 128 + 64 + 96) + 600 } };

  it.each([true, false])("the memory stays taken until the truth is known; given: %s", async (given) => {
    const world = new World({ policy });
    const process = await world.process();
    const [id, other] = [await process.create(), await process.create()];
    if (given) engineAnswers(process, () => Promise.reject(unreachable));
    else vi.spyOn(process.backend, "update").mockRejectedValueOnce(unreachable);
    await expect(process.service.update(id, { memory_mb: 1012, cpus: 2 }, call)).rejects.toMatchObject({
      code: "BACKEND_UNAVAILABLE",
      message: expect.stringContaining("not known yet"),
    });
    const grow = () => process.service.update(other, { memory_mb: 1012 }, call);
    await expect(grow()).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });

    await process.keep();
    await eventually("it is known", () => recordOf(process.store, id).growing_to_mb === undefined);
    const { memory_mb, cpus } = recordOf(process.store, id).resources;
    expect({ memory_mb, cpus }).toEqual(given ? { memory_mb: 1012, cpus: 2 } : { memory_mb: 512, cpus: 1 });
    expect(limitsAt(world, id)).toMatchObject({ memory_mb, cpus });
    expect(updates(process, id)).toMatchObject(given ? [{ ...grown(1012), actor: { kind: "system" } }] : []);
    if (given) await expect(grow()).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    else expect((await grow()).resources.memory_mb).toBe(1012);
  });

  it("the next update finds it out before it changes more", async () => {
    const process = await new World({ policy }).process();
    const id = await process.create();
    engineAnswers(process, () => Promise.reject(unreachable));
    await expect(process.service.update(id, { memory_mb: 1012 }, call)).rejects.toMatchObject({ retryable: true });
    expect((await process.service.update(id, { cpus: 2 }, call)).resources).toMatchObject({ memory_mb: 1012, cpus: 2 });
    expect(recordOf(process.store, id)).not.toHaveProperty("growing_to_mb");
    expect(updates(process, id)).toMatchObject([grown(1012), { actor: { kind: "agent" } }]);
  });
});
