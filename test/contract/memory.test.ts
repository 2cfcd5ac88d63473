import { expect, onTestFinished, test } from "vitest";
import { ManualClock } from "../../src/sandbox/backends/memory/clock.ts";
import { MemoryEngine } from "../../src/sandbox/backends/memory/engine.ts";
import { Lease } from "../../src/sandbox/backends/memory/lease.ts";
import { MemoryBackend } from "../../src/sandbox/backends/memory/memory.ts";
import { backendContract } from "./backend-contract.ts";
import { ContractHouse } from "./house.ts";

backendContract("memory", async () => {
  const engine = new MemoryEngine();
  const backend = new MemoryBackend({ engine, installId: "one" });
  const otherInstall = new MemoryBackend({ engine, installId: "two" });
  return {
    backend,
    otherInstall,
    image: "chorus-sandbox/base",
    cleanup: async () => {
      await backend[Symbol.asyncDispose]();
      await otherInstall[Symbol.asyncDispose]();
    },
  };
});

/** Beyond the contract: what tests of other rooms do to a backend. */
function house(options: { clock?: ManualClock } = {}) {
  const backend = new MemoryBackend(options);
  const house = new ContractHouse({ backend, image: "alpine" });
  onTestFinished(async () => {
    backend.unreachable(false);
    await house[Symbol.asyncDispose]();
    await backend[Symbol.asyncDispose]();
  });
  return { backend, house };
}

test("a crash leaves no last word", async () => {
  const { backend, house: rooms } = house();
  const watch = rooms.watch();
  const { id, guest } = await rooms.sandbox();
  await guest.startExec("ex_1", { command: "sleep 600" }, {});
  backend.crash(id, 2);
  await guest.closed;
  expect(await watch.died(id)).toMatchObject({ exit_code: 2 });
  expect((await backend.lastWords(id)).map((line) => JSON.parse(line).kind)).toEqual(["boot", "exec.started"]);
});

test("an unreachable engine answers nothing, and its watch tells when it is back", async () => {
  const { backend, house: rooms } = house();
  const watch = rooms.watch();
  const { id, guest } = await rooms.sandbox();
  await watch.next((fact) => fact.kind === "started");
  backend.unreachable(true);
  const calls = [backend.engine(), backend.list(), backend.status(id), backend.connect(id), backend.remove(id)];
  for (const call of calls) await expect(call).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: true });
  expect((await guest.health()).sandbox_id).toBe(id);
  await guest.shutdown("unseen");
  await guest.closed;
  backend.unreachable(false);
  await watch.next((fact) => fact.kind === "reconnected");
  expect(await backend.status(id)).toMatchObject({ state: "exited", exit_code: 0 });
});

test("dropped connections break sessions and nothing else", async () => {
  const { backend, house: rooms } = house();
  const { id, guest } = await rooms.sandbox();
  const waiting = guest.facts(1, 60_000);
  await guest.health();
  backend.dropConnections(id);
  await expect(waiting).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
  await guest.closed;
  expect((await (await rooms.connect(id)).health()).sandbox_id).toBe(id);
});

test("time can be a test's own", async () => {
  const clock = new ManualClock();
  const { backend, house: rooms } = house({ clock });
  const { id, guest } = await rooms.sandbox();
  await guest.setLease({ ttl_ms: 3_600_000, idle_ms: 900_000 });
  clock.advance(900_000 - 60_000);
  expect((await guest.facts(1, 0)).facts).toMatchObject([{ kind: "lease.expiring", lease: "idle", in_ms: 60_000 }]);
  await guest.stat(".");
  expect((await guest.health()).lease.idle_remaining_ms).toBe(900_000);
  await guest.startExec("ex_1", { command: "sleep 3000" }, {});
  clock.advance(2_000_000);
  expect((await guest.viewExec("ex_1", {})).exec).toMatchObject({ status: "running", duration_ms: 2_000_000 });
  clock.advance(3_600_000);
  await guest.closed;
  expect(await backend.status(id)).toMatchObject({ state: "exited", exit_code: 80 });
});

// A guest that ends goes on answering for a moment, too short for a client to meet it there.
test("a lease that is over stays over", () => {
  const clock = new ManualClock();
  const told: string[] = [];
  const lease = new Lease(clock, 60_000, () => false, { expiring: () => {}, over: (kind) => told.push(kind) });
  lease.set({ ttl_ms: 1000 });
  clock.advance(1000);
  for (const late of [{ ttl_ms: 3_600_000 }, { idle_ms: 3_600_000 }, { boot_ms: 3_600_000 }, {}]) {
    expect(() => lease.set(late)).toThrow(expect.objectContaining({ code: "ENDING", status: 409 }));
  }
  expect(lease.view().ttl_remaining_ms).toBe(0);
  clock.advance(3_600_000);
  expect(told).toEqual(["ttl"]);
});
