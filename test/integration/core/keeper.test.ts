import { describe, expect, it, vi } from "vitest";
import { ManualClock } from "../../../src/sandbox/backends/memory/clock.ts";
import { call, recordOf, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const over = (process: TestProcess, id: string) =>
  eventually("the sandbox has ended", () => recordOf(process.store, id).state === "ended");
const gone = (world: World, id: string) => eventually("its shell is removed", () => !world.engine.sandboxes.has(id));

describe("a lease", () => {
  it.each([
    { what: "ttl", request: { ttl_s: 100, idle_s: 1000 }, advance: 100_000, exit_code: 80 },
    { what: "idle", request: { ttl_s: 1000, idle_s: 100 }, advance: 100_000, exit_code: 81 },
  ])("that is over ends the sandbox for the right reason: $what", async ({ what, request, advance, exit_code }) => {
    const clock = new ManualClock();
    const world = new World({ clock });
    const process = await world.process();
    await process.keep();
    const id = await process.create(request);
    clock.advance(advance - 1_000);
    await eventually("it is told to expire", () => told(process.store, id, "lifecycle.expiring").length === 1);
    clock.advance(1_000);
    await over(process, id);
    expect(recordOf(process.store, id).ended).toMatchObject({ reason: what, exit_code });
    expect(told(process.store, id, "lifecycle.died")).toMatchObject([{ expected: true, exit_code }]);
    expect(told(process.store, id, "lifecycle.expiring")).toMatchObject([{ kind: what }]);
  });

  it("is enforced through the engine when the guest lets it pass", async () => {
    // Its clock stands still, so the guest never ends by itself.
    const world = new World({ clock: new ManualClock() });
    const process = await world.process();
    await process.keep({ timing: { overdueMs: 10 } });
    const id = await process.create({ ttl_s: 1 });
    await over(process, id);
    expect(recordOf(process.store, id).ended).toMatchObject({ reason: "ttl", exit_code: 137 });
    await gone(world, id);
  });

  it("is not over because the wall clock jumped", async () => {
    const world = new World({ clock: new ManualClock() });
    const process = await world.process();
    const id = await process.create();
    await process.store.write((tx) => {
      const record = tx.sandbox(id);
      if (record) tx.putSandbox({ ...record, expires_at: "2001-01-01T00:00:00.000Z" });
    });
    const sweeps = vi.spyOn(process.store, "prune");
    await process.keep({ timing: { pruneMs: 0 } });
    await eventually("it was looked at", () => sweeps.mock.calls.length >= 3);
    expect(recordOf(process.store, id)).toMatchObject({ state: "running" });
    expect((await process.service.list({}, call)).sandboxes[0]?.expires_in_s).toBeGreaterThan(3_000);
  });
});

describe("a keeper", () => {
  it("that closes is followed by the next at once, one that is silent after a while", async () => {
    const world = new World();
    const [one, two, three] = [await world.process(), await world.process(), await world.process()];
    const role = `keeper:${world.engine.id}`;
    const holder = () => three.store.roles.holder(role)?.process_id;
    const first = await one.keep();
    await two.keep();
    expect(holder()).toBe(one.store.processId);
    await first[Symbol.asyncDispose]();
    await eventually("the second keeps", () => holder() === two.store.processId);

    // Suspended: its renewals no longer come.
    const { roles } = two.store;
    const hold = roles.hold.bind(roles);
    let silent = true;
    roles.hold = async (...args) => {
      while (silent) await new Promise((resolve) => setTimeout(resolve, 5));
      return hold(...args);
    };
    await three.keep({ timing: { staleMs: 200 } });
    await eventually("the third keeps", () => holder() === three.store.processId);
    const id = await one.create();
    await three.core.connections.guest(id);
    await one.service.execRun(id, { command: "sleep 0.01", wait_s: 0 }, call);
    await eventually("it reads facts", () => told(one.store, id, "exec.completed").length === 1);
    silent = false;
    await one.exec(id, "true");
    expect(told(one.store, id, "exec.completed")).toHaveLength(2);
    await eventually("the third keeps on", () => holder() === three.store.processId);
  });
});
