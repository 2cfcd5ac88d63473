import { describe, expect, it, vi } from "vitest";
import { MemoryEngine } from "../../../src/sandbox/backends/memory/engine.ts";
import { ingest } from "../../../src/sandbox/ingest.ts";
import { reconcile } from "../../../src/sandbox/reconcile.ts";
import { settleDeath } from "../../../src/sandbox/settle.ts";
import { call, entries, ex, fakeOf, gate, recordOf, story, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const over = (process: TestProcess, id: string) =>
  eventually("the sandbox has ended", () => recordOf(process.store, id).state === "ended");
const gone = (world: World, id: string) => eventually("its shell is removed", () => !world.engine.sandboxes.has(id));

describe("a death", () => {
  it("is told once, however many processes see it", async () => {
    const world = new World();
    const processes = await Promise.all([world.process(), world.process(), world.process()]);
    const [one] = processes;
    const id = await one.create();
    // All of them hold a session, so all of them hear of it, and each looks for itself as well.
    for (const process of processes) await process.exec(id, "true");
    world.engine.crash(id, 139);
    await Promise.all(
      processes.map(async ({ core, backend }) =>
        settleDeath(core, id, await backend.status(id).catch(() => undefined)),
      ),
    );
    await over(one, id);
    await gone(world, id);
    expect(story(one.store, id).filter((type) => /died|destroyed|failed/.test(type))).toEqual([
      "lifecycle.died",
      "lifecycle.destroyed",
    ]);
    expect(told(one.store, id, "lifecycle.died")).toMatchObject([
      { exit_code: 139, signal: "SEGV", expected: false, oom_killed: false },
    ]);
    expect(told(one.store, id, "lifecycle.destroyed")).toMatchObject([{ reason: "died", totals: { execs: 3 } }]);
  });

  it("takes nothing along that the flight recorder holds", async () => {
    const world = new World();
    const first = await world.process();
    const id = await first.create();
    const guest = await first.core.connections.guest(id);
    await guest.startExec(ex(first, "done"), { command: "exit 7" }, { wait_ms: 10_000 });
    await guest.startExec(ex(first, "open"), { command: "sleep 600" }, {});
    await first[Symbol.asyncDispose]();
    world.engine.crash(id);

    const next = await world.process();
    await next.keep();
    await over(next, id);
    expect(told(next.store, id, "exec.completed")).toMatchObject([
      { exec_id: ex(next, "done"), status: "exited", exit_code: 7, ended_by: "self" },
      { exec_id: ex(next, "open"), status: "lost", exit_code: null, ended_by: "sandbox" },
    ]);
    expect(story(next.store, id).slice(-2)).toEqual(["lifecycle.died", "lifecycle.destroyed"]);
    expect((await next.service.get(id, {}, call)).ended?.last_execs).toHaveLength(2);
    await gone(world, id);
  });

  it("waits for an engine that goes away before the flight recorder is read", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    await guest.startExec(ex(process, "done"), { command: "true" }, { wait_ms: 10_000 });
    process.backend.hooks.lastWords = () => world.engine.unreachable(true);
    world.engine.crash(id);
    await eventually("its loss was looked into", () => process.core.settling.size === 0 && guest.isClosed);
    await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
    expect(recordOf(process.store, id).state).toBe("running");

    process.backend.hooks = {};
    await process.keep();
    world.engine.unreachable(false);
    await over(process, id);
    expect(told(process.store, id, "exec.completed")).toMatchObject([
      { exec_id: ex(process, "done"), status: "exited" },
    ]);
  });

  it("is found by whoever uses the sandbox while the keeper is suspended", async () => {
    const world = new World();
    const [keeper, user] = [await world.process(), await world.process()];
    const id = await user.create();
    await user.exec(id, "true");
    // Elected, and then never heard of again.
    expect(await keeper.store.roles.hold(`keeper:${world.engine.id}`, 60_000)).toBe(true);
    await user.keep();
    world.engine.crash(id);
    await over(user, id);
  });

  it("of a sandbox someone removed is told as reconciled", async () => {
    const world = new World();
    const first = await world.process();
    const id = await first.create();
    await first[Symbol.asyncDispose]();
    world.engine.remove(fakeOf(world.engine, id));
    const next = await world.process();
    await next.keep();
    expect(recordOf(next.store, id).ended).toMatchObject({ reason: "reconciled", exit_code: null });
    expect(story(next.store, id).slice(2)).toEqual(["lifecycle.destroyed"]);
  });
});

describe("lack of memory", () => {
  /** A sandbox in which an exec was killed for memory, which its engine remembers. */
  async function afterOom() {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    const cursor = recordOf(process.store, id).fact_cursor;
    const oom = { seq: cursor + 1, at: "2026-01-01T00:00:00.000Z", kind: "oom", oom_kills: 1 } as const;
    await ingest(process.core, id, { facts: [oom], oldest: 1, next: cursor + 2 }, guest);
    const fake = fakeOf(world.engine, id);
    fake.status = { ...fake.status, oom_killed: true };
    const limit = entries(process.store, id).at(-1)?.id;
    return { world, process, id, limit };
  }

  it("of an exec long ago is not what a destroyed sandbox ended of", async () => {
    const { process, id } = await afterOom();
    await process.service.destroy(id, call);
    const [died] = told(process.store, id, "lifecycle.died");
    expect(died).toMatchObject({ exit_code: 137, oom_killed: false, expected: true });
    expect(died).not.toHaveProperty("cause");
    expect((await process.service.get(id, {}, call)).ended).toMatchObject({ reason: "request", oom_killed: false });
    await expect(process.exec(id, "true")).rejects.toThrow(/it was destroyed on request\.$/);
  });

  it.each([
    [139, false],
    [1, false],
    [137, true],
  ])("and exit code %i of a sandbox that nobody ended: oom_killed %s", async (exitCode, oom_killed) => {
    const { world, process, id, limit } = await afterOom();
    world.engine.crash(id, exitCode);
    await over(process, id);
    const [died] = told(process.store, id, "lifecycle.died");
    expect(died).toMatchObject({ exit_code: exitCode, oom_killed, expected: false });
    expect(died?.["cause"]).toBe(oom_killed ? limit : undefined);
    expect((await process.service.get(id, {}, call)).ended).toMatchObject({ reason: "died", oom_killed });
  });
});

describe("the end of a lease", () => {
  const at = "2026-01-01T00:00:00.000Z";
  const over80 = async (world: World, process: TestProcess, id: string) => {
    world.engine.crash(id, 80);
    await over(process, id);
    const story = entries(process.store, id);
    const [died, destroyed] = ["lifecycle.died", "lifecycle.destroyed"].map((type) =>
      story.find((entry) => entry.type === type),
    );
    expect(destroyed?.data).toMatchObject({ reason: "ttl", cause: died?.id });
    return died?.data["cause"];
  };

  it("follows from the notice of the same lease", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    const cursor = recordOf(process.store, id).fact_cursor;
    const facts = (["ttl", "idle"] as const).map((lease, i) => ({
      ...{ seq: cursor + 1 + i, at, kind: "lease.expiring" as const, lease, in_ms: 1_000 },
    }));
    await ingest(process.core, id, { facts, oldest: 1, next: cursor + 3 }, guest);
    const [ttl] = entries(process.store, id).filter(({ type }) => type === "lifecycle.expiring");
    expect(await over80(world, process, id)).toBe(ttl?.id);
  });

  it("follows from nothing where an older version did not note which lease a notice was of", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    const older = { count: 2, expiring: "0190-older", oom: "0190-oom" };
    await process.store.write((tx) => tx.putSandbox({ ...recordOf(process.store, id), told: older }));
    expect(await over80(world, process, id)).toBeUndefined();
  });
});

describe("an engine that is away", () => {
  it("says nothing about any sandbox: sessions live on and nothing is ended", async () => {
    const world = new World();
    const process = await world.process();
    await process.keep();
    const id = await process.create({ name: "kept" });
    const before = story(process.store, id);
    world.engine.unreachable(true);
    expect((await process.exec(id, "echo still here")).stdout).toBe("still here\n");
    world.engine.dropConnections(id);
    await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: true });
    expect((await process.service.get("kept", {}, call)).state).toBe("running");
    expect(story(process.store, id).slice(before.length)).toEqual(["exec.started", "exec.completed"]);

    world.engine.unreachable(false);
    expect((await process.exec(id, "echo again")).stdout).toBe("again\n");
  });

  it("delays a destroy, which is kept and finished by the keeper", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create();
    await process.keep();
    world.engine.unreachable(true);
    await expect(process.service.destroy(id, call)).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
    expect(recordOf(process.store, id)).toMatchObject({ state: "running", ending: { reason: "request" } });
    await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "SANDBOX_ENDED" });
    await expect(process.service.update(id, { ttl_s: 60 }, call)).rejects.toMatchObject({ code: "SANDBOX_ENDED" });
    world.engine.unreachable(false);
    await over(process, id);
    expect(told(process.store, id, "lifecycle.destroyed")).toMatchObject([
      { reason: "request", actor: { kind: "agent", client: "tests/1" } },
    ]);
    await gone(world, id);
  });

  it("at the keeper's start only delays it", async () => {
    const world = new World();
    const first = await world.process();
    const id = await first.create();
    await first[Symbol.asyncDispose]();
    world.engine.crash(id);
    world.engine.unreachable(true);
    const next = await world.process();
    await next.keep();
    expect(recordOf(next.store, id).state).toBe("running");
    world.engine.unreachable(false);
    await over(next, id);
    expect(recordOf(next.store, id).ended).toMatchObject({ reason: "died" });
  });

  it("is not taken for the one a sandbox lives on", async () => {
    const world = new World();
    const [home, abroad] = [
      await world.process(),
      await world.process({ engine: new MemoryEngine({ id: "another" }) }),
    ];
    const id = await home.create({ name: "there" });
    await abroad.keep();
    const refused = {
      code: "BACKEND_UNAVAILABLE",
      retryable: false,
      message: expect.stringContaining("another engine"),
    };
    await expect(abroad.exec(id, "true")).rejects.toMatchObject(refused);
    await expect(abroad.service.destroy(id, call)).rejects.toMatchObject(refused);
    await expect(abroad.service.update(id, { cpus: 2 }, call)).rejects.toMatchObject({ code: "SANDBOX_ENDED" });
    expect((await abroad.service.get(id, {}, call)).state).toBe("running");
    expect(story(home.store, id)).toEqual(["lifecycle.created", "lifecycle.ready"]);
    expect(fakeOf(world.engine, id).status.state).toBe("running");
  });
});

it("destroying is idempotent, by id and by name, from two processes at once", async () => {
  const world = new World();
  const [one, two] = [await world.process(), await world.process()];
  const id = await one.create({ name: "twice" });
  await one.exec(id, "true");
  await Promise.all([one.service.destroy(id, call), two.service.destroy("twice", call), one.service.destroy(id, call)]);
  expect(await two.service.destroy("twice", call)).toEqual({ sandbox_id: id, destroyed: false, already_ended: true });
  expect(story(one.store, id).filter((type) => /died|destroyed/.test(type))).toHaveLength(2);
  expect(told(one.store, id, "lifecycle.destroyed")).toMatchObject([{ reason: "request", totals: { execs: 1 } }]);
  expect((await two.service.get("twice", {}, call)).ended?.reason).toBe("request");
  const again = await one.create({ name: "twice" });
  expect((await two.service.get("twice", {}, call)).sandbox_id).toBe(again);
  await one.service.destroy(again, call);
  const totals = { cpu_ms: expect.any(Number), peak_memory_bytes: expect.any(Number), execs: 0 };
  expect(told(one.store, again, "lifecycle.destroyed")).toMatchObject([{ totals }]);
});

it("a refusal by the policy that comes after the end is told of the host", async () => {
  const world = new World({ policy: { maxima: { ttl_s: 4_000 } } });
  const [one, two] = [await world.process(), await world.process()];
  const id = await one.create();
  const write = one.store.write.bind(one.store);
  vi.spyOn(one.store, "write").mockImplementationOnce(async (plan) => {
    await two.service.destroy(id, call);
    return write(plan);
  });
  await expect(one.service.update(id, { ttl_s: 80_000 }, call)).rejects.toMatchObject({ code: "POLICY_DENIED" });
  expect(story(one.store, id).at(-1)).toBe("lifecycle.destroyed");
  expect(story(one.store, "_host")).toEqual(["policy.denied"]);
});

it("an end by a lease that was renewed does not follow from the notice before", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  for (const lease of ["ttl", "idle"]) guest.facts.add("lease.expiring", { lease, in_ms: 1_000 });
  await process.exec(id, "true");
  await process.service.update(id, { ttl_s: 2_000 }, call);
  world.engine.crash(id, 80);
  await over(process, id);
  expect(told(process.store, id, "lifecycle.died")[0]).not.toHaveProperty("cause");
});

it("a sandbox destroyed while it is adopted is told as destroyed", async () => {
  const world = new World();
  const [creator, adopter, other] = [await world.process(), await world.process(), await world.process()];
  const never = gate();
  creator.backend.hooks.created = () => never.opened;
  const { sandbox_id: id } = await creator.service.create({ wait_s: 0 }, call);
  await eventually("it is made", () => world.engine.sandboxes.has(id));
  await creator.store.write((tx) => tx.putSandbox({ ...recordOf(creator.store, id), creator: "ps_dead" }));
  const [connecting, killed] = [gate(), gate()];
  adopter.backend.hooks.connect = async () => {
    connecting.open();
    await killed.opened;
  };
  const adopting = reconcile(adopter.core, AbortSignal.timeout(20_000));
  await connecting.opened;
  // The adopter meets the death before who asked for it has told it.
  other.backend.hooks.lastWords = async () => {
    killed.open();
    await adopting;
  };
  expect(await other.service.destroy(id, call)).toMatchObject({ destroyed: true });
  await adopting;
  expect(story(other.store, id)).toEqual(["lifecycle.created", "lifecycle.destroyed"]);
  expect(told(other.store, id, "lifecycle.destroyed")).toMatchObject([{ reason: "request" }]);
  never.open();
});

it("what happened while no server ran is told with the time it happened at, and with what the sandbox had used", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { ready_at: ready = "" } = recordOf(process.store, id);
  await process.core.connections[Symbol.asyncDispose]();
  const { guest } = fakeOf(world.engine, id);
  const at = new Date(Date.parse(ready) + 50).toISOString();
  vi.useFakeTimers({ toFake: ["Date"], now: Date.parse(at) });
  guest.facts.add("exec.started", { exec_id: ex(process, "1"), command: "true", cwd: "/workspace", tty: false });
  guest.facts.add("lease.expiring", { lease: "ttl", in_ms: 60_000 });
  guest.facts.add("lease.over", { lease: "ttl", cpu_ms: 12, peak_memory_bytes: 34 });
  world.engine.crash(id, 80);
  vi.setSystemTime(Date.parse(at) + 3_600_000);
  const next = await world.process();
  await settleDeath(next.core, id, await next.backend.status(id));
  vi.useRealTimers();
  const later = entries(next.store, id).slice(2);
  expect(later.map(({ type }) => type)).toEqual([
    ...["exec.started", "lifecycle.expiring", "exec.completed", "lifecycle.died", "lifecycle.destroyed"],
  ]);
  expect(new Set(later.map(({ time }) => time))).toEqual(new Set([at]));
  expect(told(next.store, id, "lifecycle.died")).toMatchObject([{ uptime_ms: 50 }]);
  expect(told(next.store, id, "lifecycle.destroyed")).toMatchObject([
    { reason: "ttl", totals: { cpu_ms: 12, peak_memory_bytes: 34 } },
  ]);
  expect(recordOf(next.store, id).ended?.at).toBe(at);
});

it("a guest's clock makes no event of the future, nor one of before its sandbox", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  for (const at of ["2001-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"]) {
    guest.facts.add("lease.expiring", { lease: "ttl", in_ms: 60_000, at });
  }
  await process.exec(id, "true");
  const times = entries(process.store, id).map(({ type, time }) => (type === "lifecycle.expiring" ? time : ""));
  const [early, late] = times.filter((time) => time !== "");
  expect(early).toBe(recordOf(process.store, id).created_at);
  expect(Date.parse(late ?? "")).toBeLessThanOrEqual(Date.now());
});

it("one that dies tells what it had used when it was last looked at", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  await process.service.stats(id, call);
  world.engine.crash(id);
  await over(process, id);
  const totals = { cpu_ms: expect.any(Number), peak_memory_bytes: expect.any(Number), execs: 0 };
  expect(told(process.store, id, "lifecycle.destroyed")).toMatchObject([{ reason: "died", totals }]);
});
