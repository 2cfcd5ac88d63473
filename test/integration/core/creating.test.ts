import { describe, expect, it, onTestFinished, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { call, fakeOf, gate, type Hooks, recordOf, story, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const nothingLeft = (world: World) => eventually("nothing is left", () => world.engine.sandboxes.size === 0);

describe("requests", () => {
  it("with one request_id make one sandbox, from however many calls and processes", async () => {
    const world = new World();
    const processes = [await world.process(), await world.process()];
    const request = { request_id: "r1", env: { A: "1" }, labels: { team: "red" } };
    const views = await Promise.all(
      Array.from({ length: 10 }, (_, i) => processes[i % 2]?.service.create(request, call)),
    );
    expect(new Set(views.map((view) => view?.sandbox_id)).size).toBe(1);
    expect(views.every((view) => view?.state === "running")).toBe(true);
    expect(world.engine.sandboxes.size).toBe(1);
    const [one] = processes;
    await expect(one?.service.create({ ...request, env: { A: "2" } }, call)).rejects.toMatchObject({
      code: "CONFLICT",
    });
  });

  it("with one name make one sandbox; the others are told", async () => {
    const world = new World();
    const processes = [await world.process(), await world.process()];
    const made = await Promise.allSettled(
      Array.from({ length: 6 }, (_, i) => processes[i % 2]?.service.create({ name: "same" }, call)),
    );
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of made) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "CONFLICT" });
    }
    expect(world.engine.sandboxes.size).toBe(1);
  });

  it("stop at the number of sandboxes, and at their memory", async () => {
    const process = await new World({ policy: { maxima: { sandboxes: 2, memory_total_pct: 5 } } }).process();
    const made = await Promise.allSettled(Array.from({ length: 5 }, () => process.create()));
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    const [id] = process.store.liveSandboxes().map(({ sandbox_id }) => sandbox_id);
    await expect(process.create()).rejects.toMatchObject({
      code: "LIMIT_EXCEEDED",
      next: expect.stringContaining("sb_"),
    });
    await process.service.destroy(id ?? "", call);
    // 5 % of 64 GiB are 3276 MiB, of which one sandbox has 1312.
    await expect(process.create({ memory_mb: 2048 })).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    const small = await process.create({ memory_mb: 64 });
    await expect(process.service.update(small, { memory_mb: 2048 }, call)).rejects.toMatchObject({
      code: "LIMIT_EXCEEDED",
    });
    expect((await process.service.update(small, { memory_mb: 128 }, call)).resources.memory_mb).toBe(128);
  });

  it("are refused for labels that would swell every event, and for what is no env", async () => {
    const process = await new World().process();
    const invalid = { code: "INVALID_ARGUMENT" };
    await expect(process.create({ labels: { long: "x".repeat(9_000) } })).rejects.toMatchObject(invalid);
    await expect(process.create({ env: { "A=B": "1" } })).rejects.toMatchObject(invalid);
    const id = await process.create({ labels: { a: "x".repeat(5_000) } });
    const more = process.service.update(id, { labels: { b: "x".repeat(5_000) } }, call);
    await expect(more).rejects.toMatchObject(invalid);
    expect(story(process.store, id)).toEqual(["lifecycle.created", "lifecycle.ready"]);
  });

  it("past their wait go on; another process waits for them as well", async () => {
    const world = new World();
    const [one, two] = [await world.process(), await world.process()];
    const { opened, open } = gate();
    one.backend.hooks.image = () => opened;
    const { sandbox_id, state } = await one.service.create({ wait_s: 0 }, call);
    expect(state).toBe("creating");
    await expect(two.exec(sandbox_id, "true")).rejects.toMatchObject({ code: "SANDBOX_NOT_RUNNING" });
    const waiting = two.service.get(sandbox_id, { wait_s: 30 }, call);
    open();
    expect((await waiting).state).toBe("running");
  });
});

const stages: [name: string, stage: string, hooks: (fail: () => never) => Hooks][] = [
  ["image", "image", (fail) => ({ image: fail })],
  ["create", "create", (fail) => ({ create: fail })],
  ["connect", "guest", (fail) => ({ connect: fail })],
  ["env", "guest", (fail) => ({ created: ({ guest }) => void Object.assign(guest.env, { set: fail }) })],
  ["lease", "guest", (fail) => ({ created: ({ guest }) => void Object.assign(guest.lease, { set: fail }) })],
];

describe("a create that fails", () => {
  it.each(stages)("at %s is told as failed at stage %s and leaves nothing", async (_name, stage, hooks) => {
    const world = new World();
    const process = await world.process();
    process.backend.hooks = hooks(() => {
      throw new Error("not today");
    });
    const request = { name: "n", request_id: "r", env: { SECRET: "hunter2hunter2" } };
    await expect(process.create(request)).rejects.toMatchObject({ code: "INTERNAL" });
    await nothingLeft(world);
    const [failed] = (await process.service.list({ state: "failed" }, call)).sandboxes;
    const id = failed?.sandbox_id ?? "";
    expect(story(process.store, id)).toEqual(["lifecycle.created", "lifecycle.failed"]);
    expect(told(process.store, id, "lifecycle.failed")).toMatchObject([{ stage, code: "INTERNAL", state: "failed" }]);
    await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "SANDBOX_ENDED" });

    // Neither the name nor the request stands in the way of trying again.
    process.backend.hooks = {};
    expect(await process.create(request)).not.toBe(id);
  });

  it("because the guest died tells so", async () => {
    const world = new World();
    const process = await world.process();
    process.backend.hooks.created = ({ spec }) => world.engine.crash(spec.sandbox_id, 84);
    await expect(process.create()).rejects.toThrow();
    await nothingLeft(world);
    const [failed] = (await process.service.list({ include_ended: true }, call)).sandboxes;
    expect(failed).toMatchObject({ state: "failed", ended_reason: "failed" });
  });
});

describe("destroying what is being created", () => {
  const destroyings: [stage: string, hooks: (destroy: () => Promise<void>) => Hooks][] = [
    ["image", (destroy) => ({ image: destroy })],
    ["create", (destroy) => ({ create: destroy })],
    ["created", (destroy) => ({ created: destroy })],
    ["connect", (destroy) => ({ connect: destroy })],
  ];

  it.each(destroyings)("from another process, at %s", async (_stage, hooks) => {
    const world = new World();
    const [one, two] = [await world.process(), await world.process()];
    await two.keep();
    one.backend.hooks = hooks(async () => {
      const [record] = two.store.liveSandboxes();
      one.backend.hooks = {};
      expect(await two.service.destroy(record?.sandbox_id ?? "", call)).toMatchObject({ destroyed: true });
    });
    await expect(one.create()).rejects.toMatchObject({ code: "SANDBOX_ENDED" });
    await endedOnRequest(world, one);
  });

  it.each(destroyings)("from the process that creates it, at %s", async (_stage, hooks) => {
    const world = new World();
    const process = await world.process();
    let destroying: Promise<unknown> | undefined;
    process.backend.hooks = hooks(async () => {
      const [record] = process.store.liveSandboxes();
      process.backend.hooks = {};
      destroying = process.service.destroy(record?.sandbox_id ?? "", call);
    });
    await expect(process.create()).rejects.toMatchObject({ code: "SANDBOX_ENDED" });
    expect(await destroying).toMatchObject({ destroyed: true });
    await endedOnRequest(world, process);
  });

  it("while the engine is away is kept, though its creator lives", async () => {
    const world = new World();
    const [one, two] = [await world.process(), await world.process()];
    const { opened, open } = gate();
    one.backend.hooks.image = () => opened;
    const { sandbox_id } = await one.service.create({ wait_s: 0 }, call);
    world.engine.unreachable(true);
    await expect(two.service.destroy(sandbox_id, call)).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
    expect(recordOf(two.store, sandbox_id)).toMatchObject({ state: "creating", ending: { reason: "request" } });
    await two.keep();
    world.engine.unreachable(false);
    await eventually("the keeper ends it", () => recordOf(two.store, sandbox_id).state === "ended");
    open();
    await endedOnRequest(world, one);
  });

  async function endedOnRequest(world: World, process: TestProcess): Promise<void> {
    const [ended] = (await process.service.list({ include_ended: true }, call)).sandboxes;
    const id = ended?.sandbox_id ?? "";
    await eventually("it has ended", () => recordOf(process.store, id).state === "ended");
    await nothingLeft(world);
    expect(recordOf(process.store, id).ended?.reason).toBe("request");
    expect(story(process.store, id).filter((type) => !/died|created/.test(type))).toEqual(["lifecycle.destroyed"]);
  }
});

describe("a creator that dies", () => {
  /** A sandbox as its creator left it: the work is stopped at a hook and the record says that the creator is no more. */
  async function abandoned(process: TestProcess, stage: keyof Hooks, request = {}): Promise<string> {
    const { opened, open } = gate();
    const stopped = new Promise<void>((_resolve, reject) =>
      onTestFinished(() => reject(new Error("the test is over"))),
    );
    process.backend.hooks = {
      [stage]: () => {
        open();
        return stopped;
      },
    };
    const { sandbox_id } = await process.service.create({ wait_s: 0, ...request }, call);
    await opened;
    await process.store.write((tx) => {
      const record = tx.sandbox(sandbox_id);
      if (record) tx.putSandbox({ ...record, creator: "ps_dead" });
    });
    return sandbox_id;
  }

  it.each(["image", "create", "created", "connect"] as const)(
    "at %s leaves what the next server removes and tells as failed",
    async (stage) => {
      const world = new World();
      const [one, two] = [await world.process(), await world.process()];
      const id = await abandoned(one, stage);
      await two.keep();
      expect(recordOf(two.store, id).state).toBe("failed");
      expect(told(two.store, id, "lifecycle.failed")).toMatchObject([{ code: "ABORTED", retryable: true }]);
      await nothingLeft(world);
    },
  );

  it("after it claimed the sandbox leaves one that is adopted, complete", async () => {
    const world = new World();
    const [one, two] = [await world.process(), await world.process()];
    const id = await abandoned(one, "connect", { image: "alpine", env: { WHO: "me" }, ttl_s: 100 });
    const { guest } = fakeOf(world.engine, id);
    guest.env.set("WHO", "me");
    guest.lease.set({ ttl_ms: 100_000, idle_ms: 100_000 });
    await two.keep();
    const view = await two.service.get(id, {}, call);
    expect(view).toMatchObject({ state: "running", image: "docker.io/library/alpine:latest", shell: "/bin/sh" });
    expect((await two.exec(id, "echo $WHO")).stdout).toBe("me\n");
    expect(story(two.store, id).slice(0, 2)).toEqual(["lifecycle.created", "lifecycle.ready"]);
  });

  it("leaves nothing failed when whoever would adopt it is closing or loses the engine", async () => {
    const world = new World();
    const [one, two, three] = [await world.process(), await world.process(), await world.process()];
    const id = await abandoned(one, "connect");
    fakeOf(world.engine, id).guest.lease.set({ ttl_ms: 100_000 });
    const { opened, open } = gate();
    two.backend.hooks.connect = () => {
      world.engine.unreachable(true);
      open();
    };
    const keeper = await two.keep();
    await opened;
    await keeper[Symbol.asyncDispose]();
    expect(recordOf(two.store, id).state).toBe("creating");
    world.engine.unreachable(false);
    await three.keep();
    await eventually("it is adopted", () => recordOf(three.store, id).state === "running");
  });

  it("whose sandbox ended at the end of its boot lease is told as failed", async () => {
    const world = new World();
    const [one, two] = [await world.process(), await world.process()];
    const id = await abandoned(one, "connect");
    fakeOf(world.engine, id).guest.end(82);
    await two.keep();
    await eventually("it failed", () => recordOf(two.store, id).state === "failed");
    await nothingLeft(world);
  });
});

it("a create that fails while the disk is full is told once there is room", async () => {
  const process = await new World().process();
  let full = false;
  const write = process.store.write.bind(process.store);
  vi.spyOn(process.store, "write").mockImplementation(async (plan) => {
    if (full) throw new SandboxError("LIMIT_EXCEEDED", "The disk that holds the store is full.");
    return write(plan);
  });
  process.backend.hooks.create = () => {
    full = true;
    throw new SandboxError("BACKEND_UNAVAILABLE", "The engine is away.");
  };
  await expect(process.service.create({ name: "mine" }, call)).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
  const [record] = process.store.liveSandboxes();
  expect(record?.state).toBe("creating");
  full = false;
  await eventually("it failed", () => process.store.sandbox(record?.sandbox_id ?? "")?.state === "failed");
  expect(story(process.store, record?.sandbox_id ?? "")).toEqual(["lifecycle.created", "lifecycle.failed"]);
  process.backend.hooks = {};
  expect((await process.service.create({ name: "mine" }, call)).state).toBe("running");
});

it("a disk that is full once a sandbox is ready takes nothing of it away", async () => {
  const process = await new World().process();
  const write = process.store.write.bind(process.store);
  vi.spyOn(process.store, "write").mockImplementation(async (plan) => {
    const [id] = [...process.store.liveSandboxes()].map(({ sandbox_id }) => sandbox_id);
    if (id && story(process.store, id).includes("lifecycle.ready")) throw new Error("MDB_MAP_FULL");
    return write(plan);
  });
  const { sandbox_id: id, state } = await process.service.create({}, call);
  expect(state).toBe("running");
  vi.restoreAllMocks();
  expect((await process.exec(id, "echo fine")).stdout).toBe("fine\n");
});
