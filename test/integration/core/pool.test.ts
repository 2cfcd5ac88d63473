import { describe, expect, it } from "vitest";
import { admit } from "../../../src/sandbox/admission.ts";
import { ManualClock } from "../../../src/sandbox/backends/memory/clock.ts";
import { markReady, newRecord } from "../../../src/sandbox/birth.ts";
import { fitEngine } from "../../../src/sandbox/confinement.ts";
import type { KeeperOptions } from "../../../src/sandbox/keeper.ts";
import { claimWarm, memberLeaseMs } from "../../../src/sandbox/pool.ts";
import type { PoolMember } from "../../../src/sandbox/store/types.ts";
import { call, fakeOf, gate, recordOf, story, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const quickly: KeeperOptions = { timing: { poolCalmMs: 0 } };

/** Makes it a keeper that keeps one warm sandbox, and has been used once. All processes of a test are opened before. */
async function keeping(process: TestProcess): Promise<TestProcess> {
  await process.keep(quickly);
  await process.create();
  await member(process);
  return process;
}

const ready = ({ store }: TestProcess): PoolMember[] => store.pool().filter((each) => each.ready);
/** The one member, once there is one that is none of those known. */
const member = (process: TestProcess, ...known: string[]) =>
  eventually("a warm sandbox is ready", () => ready(process).find(({ sandbox_id: id }) => !known.includes(id)));
const emptied = ({ store }: TestProcess) => eventually("the pool is empty", () => store.pool().length === 0);
const gone = (world: World, id: string) => eventually("it is removed", () => !world.engine.sandboxes.has(id));

describe("a warm sandbox", () => {
  it("becomes the sandbox of the next who asks for the same, with all that was asked for, and is replaced", async () => {
    const world = new World();
    const process = await keeping(await world.process({ pool: 1 }));
    const { sandbox_id, uid } = await member(process);
    const request = { name: "mine", labels: { team: "red" }, env: { GREETING: "hello" }, ttl_s: 100, idle_s: 50 };
    const view = await process.service.create(request, call);
    expect(view).toMatchObject({ sandbox_id, warm: true, state: "running", name: "mine", env_keys: ["GREETING"] });
    expect(recordOf(process.store, sandbox_id).uid).toBe(uid);
    expect(fakeOf(world.engine, sandbox_id).spec.uid).toBe(uid);
    expect(story(process.store, sandbox_id)).toEqual(["lifecycle.created", "lifecycle.ready"]);
    expect(told(process.store, sandbox_id, "lifecycle.created")).toMatchObject([{ warm: true, ttl_s: 100 }]);
    expect((await process.exec(sandbox_id, "echo $GREETING")).stdout).toBe("hello\n");
    expect(view).toMatchObject({ expires_in_s: 100, idle_in_s: 50 });
    await eventually("it has its lease", () => fakeOf(world.engine, sandbox_id).guest.lease.view().claimed);
    await member(process, sandbox_id);
  });

  it("keeps the lease of an update that follows at once, though its own is set behind the answer", async () => {
    const world = new World();
    const process = await keeping(await world.process({ pool: 1 }));
    const { sandbox_id } = await member(process);
    await process.service.create({ ttl_s: 100 }, call);
    const view = await process.service.update(sandbox_id, { ttl_s: 500 }, call);
    expect(view.expires_in_s).toBeGreaterThan(400);
    // An answer of the guest is behind all that was asked of it before.
    await process.exec(sandbox_id, "true");
    expect(fakeOf(world.engine, sandbox_id).guest.lease.view().ttl_remaining_ms).toBeGreaterThan(400_000);
  });

  it("is in no list, no event and no limit before", async () => {
    const world = new World({ policy: { maxima: { sandboxes: 2 } } });
    const process = await keeping(await world.process({ pool: 1 }));
    const { sandbox_id } = await member(process);
    expect((await process.service.list({}, call)).sandboxes).toHaveLength(1);
    expect(story(process.store, sandbox_id)).toEqual([]);
    await expect(process.service.get(sandbox_id, {}, call)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
    // Another spec, so not this one: it gives way, and what is made is the second of two.
    const cold = await process.service.create({ memory_mb: 256 }, call);
    expect(cold.warm).toBe(false);
    await gone(world, sandbox_id);
    await expect(process.create({ memory_mb: 256 })).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    expect(world.engine.sandboxes.size).toBe(2);
  });

  it("serves no other spec, tenant or policy", async () => {
    const world = new World();
    const others = [
      await world.process({ tenant: "other" }),
      await world.process({ policy: { maxima: { ttl_s: 4000 } } }),
    ];
    const process = await keeping(await world.process({ pool: 1 }));
    for (const request of [{ cpus: 2 }, { pids: 512 }, { workspace_mb: 64 }, { image: "debian:12" }]) {
      expect((await process.service.create(request, call)).warm).toBe(false);
    }
    // The policy's hash is looked at last, so the last one spends the member.
    for (const other of others) expect((await other.service.create({}, call)).warm).toBe(false);
  });

  it("is had by one of several that race for it", async () => {
    const world = new World();
    const other = await world.process();
    const process = await keeping(await world.process({ pool: 1 }));
    for (let round = 0; round < 5; round++) {
      await member(process);
      const views = await Promise.all([process, other, process, other].map((one) => one.service.create({}, call)));
      expect(views.filter(({ warm }) => warm)).toHaveLength(1);
      expect(new Set(views.map((view) => view.sandbox_id)).size).toBe(4);
      for (const { sandbox_id, state } of views) {
        expect(state).toBe("running");
        await process.service.destroy(sandbox_id, call);
      }
    }
  });

  it("is not spent on a request that was made before, nor on a name that is taken", async () => {
    const world = new World();
    const process = await keeping(await world.process({ pool: 1 }));
    const request = { request_id: "r1", name: "one" };
    const first = await process.service.create(request, call);
    const { sandbox_id } = await member(process, first.sandbox_id);
    expect((await process.service.create(request, call)).sandbox_id).toBe(first.sandbox_id);
    await expect(process.create({ name: "one" })).rejects.toMatchObject({ code: "CONFLICT" });
    expect(ready(process).map((each) => each.sandbox_id)).toEqual([sandbox_id]);
  });

  it("that died is not handed out: the caller gets a new one", async () => {
    const world = new World();
    const process = await world.process({ pool: 1 });
    // Keeps the pool from being emptied.
    await world.process();
    const keeper = await process.keep(quickly);
    await process.create();
    const { sandbox_id } = await member(process);
    // Without a keeper nobody hears of it first.
    await keeper[Symbol.asyncDispose]();
    world.engine.crash(sandbox_id);
    const view = await process.service.create({}, call);
    expect(view).toMatchObject({ warm: false, state: "running" });
    await gone(world, sandbox_id);
    expect(process.store.pool()).toEqual([]);
  });
});

describe("the pool", () => {
  it("is filled by use only, one at a time", async () => {
    const world = new World();
    const process = await world.process({ pool: 3 });
    await process.keep(quickly);
    await process.create({ image: "debian:12" });
    let [now, most] = [0, 0];
    process.backend.hooks.create = () => {
      most = Math.max(most, ++now);
    };
    process.backend.hooks.created = () => {
      now -= 1;
    };
    await process.service.list({}, call);
    expect(process.store.pool()).toEqual([]);
    await process.create();
    await eventually("three are ready", () => ready(process).length === 3);
    expect(most).toBe(1);
  });

  it("is not filled while somebody is creating", async () => {
    const world = new World();
    const process = await world.process({ pool: 1 });
    await process.keep(quickly);
    const slow = gate();
    process.backend.hooks.image = (reference) => (reference.includes("debian") ? slow.opened : undefined);
    const { sandbox_id } = await process.service.create({ image: "debian:12", wait_s: 0 }, call);
    await process.create();
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(process.store.pool()).toEqual([]);
    slow.open();
    await process.service.get(sandbox_id, { wait_s: 30 }, call);
    await member(process);
  });

  it("is replaced when a member dies, and keeps those that live alive", async () => {
    const clock = new ManualClock();
    const world = new World({ clock });
    const process = await world.process({ pool: 1 });
    await process.keep({ timing: { poolCalmMs: 0, poolExtendMs: 0 } });
    await process.create();
    const first = await member(process);
    for (let i = 0; i < 4; i++) {
      clock.advance(memberLeaseMs / 2);
      const left = () => fakeOf(world.engine, first.sandbox_id).guest.lease.view().ttl_remaining_ms ?? 0;
      await eventually("its lease is extended", () => left() > memberLeaseMs / 2);
    }
    world.engine.crash(first.sandbox_id);
    await member(process, first.sandbox_id);
    await gone(world, first.sandbox_id);
  });

  it("is emptied when nobody uses it", async () => {
    const world = new World();
    const process = await world.process({ pool: 1 });
    await process.keep({ timing: { poolCalmMs: 0, poolUnusedMs: 3_000 } });
    const id = await process.create();
    const { sandbox_id } = await member(process);
    await gone(world, sandbox_id);
    await emptied(process);
    expect([...world.engine.sandboxes.keys()]).toEqual([id]);
  });

  it("goes with the last server, and stays with the others", async () => {
    const world = new World();
    const other = await world.process({ pool: 1 });
    const process = await keeping(await world.process({ pool: 1 }));
    const { sandbox_id } = await member(process);
    await process[Symbol.asyncDispose]();
    expect(ready(other).map((each) => each.sandbox_id)).toEqual([sandbox_id]);
    await other.keep(quickly);
    const view = await other.service.create({}, call);
    expect(view).toMatchObject({ sandbox_id, warm: true });
    await member(other, sandbox_id);
    await other[Symbol.asyncDispose]();
    expect([...world.engine.sandboxes.values()].map(({ guest }) => guest.lease.view().claimed)).toEqual([true, true]);
  });

  it("ends by itself when no server is alive", async () => {
    const clock = new ManualClock();
    const world = new World({ clock });
    const process = await world.process({ pool: 1 });
    const next = await world.process({ pool: 0 });
    const keeper = await process.keep(quickly);
    await process.create();
    const { sandbox_id } = await member(process);
    await keeper[Symbol.asyncDispose]();
    clock.advance(memberLeaseMs);
    const status = () => fakeOf(world.engine, sandbox_id).status;
    await eventually("it ended", () => status().state === "exited");
    expect(status().exit_code).toBe(82);
    await next.keep(quickly);
    await gone(world, sandbox_id);
    expect(story(next.store, sandbox_id)).toEqual([]);
  });

  it("drops members of an older policy, of another spec, and all when none are wanted", async () => {
    const world = new World();
    const newer = await world.process({ pool: 1, policy: { maxima: { ttl_s: 4000 } } });
    const none = await world.process({ pool: 0 });
    const process = await keeping(await world.process({ pool: 1 }));
    const { sandbox_id: old } = await member(process);
    await process[Symbol.asyncDispose]();
    await newer.keep(quickly);
    await member(newer, old);
    await gone(world, old);
    await newer[Symbol.asyncDispose]();
    await none.keep(quickly);
    await emptied(none);
    await eventually("only sandboxes are left", () => world.engine.sandboxes.size === 1);
  });
});

describe("a server that dies", () => {
  const dead = { creator: "ps_0000000000000000" };

  it("while it fills leaves nothing", async () => {
    const world = new World();
    const process = await keeping(await world.process({ pool: 1 }));
    const whole = await member(process);
    const half: PoolMember = { ...whole, ...dead, sandbox_id: "sb_0123456789abcdef", ready: false };
    await process.store.write((tx) => tx.putPoolMember(half));
    await process.backend.create({ ...fakeOf(world.engine, whole.sandbox_id).spec, sandbox_id: half.sandbox_id });
    await process.store.write((tx) => tx.putPoolMember({ ...half, sandbox_id: "sb_1123456789abcdef" }));
    await eventually("both are forgotten", () => process.store.pool().length === 1);
    await gone(world, half.sandbox_id);
    expect(ready(process)).toEqual([whole]);
  });

  it("between guest and store loses its claim, and the member with it", async () => {
    const clock = new ManualClock();
    const world = new World({ clock });
    const claimant = await world.process();
    const process = await keeping(await world.process({ pool: 1 }));
    const engine = await claimant.backend.engine();
    const spec = fitEngine(admit({}, claimant.core.policy, claimant.core.defaultImage), engine);
    const warm = await claimWarm(claimant.core, engine, spec, {}, call.signal);
    const id = warm?.member.sandbox_id ?? "";
    // Nobody else gets it, and the keeper does not keep it alive.
    expect((await process.service.create({}, call)).warm).toBe(false);
    await expect((await process.core.connections.guest(id)).setLease({ boot_ms: memberLeaseMs })).rejects.toMatchObject(
      { code: "CONFLICT" },
    );
    clock.advance(20_000);
    await gone(world, id);
    expect(story(process.store, id)).toEqual([]);
    await member(process, id);
  });

  it("between store and its last step leaves a sandbox that lasts", async () => {
    const clock = new ManualClock();
    const world = new World({ clock });
    const process = await keeping(await world.process({ pool: 1 }));
    const { core } = process;
    const engine = await core.backend.engine();
    const spec = fitEngine(admit({}, core.policy, core.defaultImage), engine);
    const warm = await claimWarm(core, engine, spec, {}, call.signal);
    if (!warm) throw new Error("nothing was warm");
    const { sandbox_id: id, uid } = warm.member;
    await process.store.write((tx) => {
      tx.removePoolMember(id);
      const ids = { sandboxId: id, engineId: engine.engine_id, uid, hash: "", runtime: "memory", warm: true };
      const record = { ...newRecord(core, spec, {}, call, ids), ...dead, claim: warm.claim };
      tx.putSandbox(record);
      markReady(tx, record, 1);
    });
    await eventually("its lease is its own", () => fakeOf(world.engine, id).guest.lease.view().claimed);
    clock.advance(60_000);
    expect((await process.exec(id, "echo here")).stdout).toBe("here\n");
  });
});
