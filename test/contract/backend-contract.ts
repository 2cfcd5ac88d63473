import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { memoryBudgetMb, type SandboxBackend } from "../../src/sandbox/backend.ts";
import { parseFlightRecorder } from "../../src/sandbox/guest/flight-recorder.ts";
import { newExecId, newSandboxId } from "../../src/sandbox/ids.ts";
import { execContract } from "./exec-contract.ts";
import { fileContract } from "./file-contract.ts";
import { ContractHouse } from "./house.ts";

export interface ContractSetup {
  backend: SandboxBackend;
  /** A reference the backend resolves; the image has busybox's sh, echo, cat, sleep and printf. */
  image: string;
  /** The same engine as another install sees it. */
  otherInstall: SandboxBackend;
  /** Disposes of both backends and whatever they stand on. Called once, after the last sandbox was removed. */
  cleanup(): Promise<void>;
}

/** What every SandboxBackend together with the guest it starts must do. */
export function backendContract(name: string, make: () => Promise<ContractSetup>): void {
  describe(`${name} keeps the contract of backends`, () => {
    let setup: ContractSetup;
    let backend: SandboxBackend;
    let house: ContractHouse;

    beforeAll(async () => {
      setup = await make();
      backend = setup.backend;
    });
    afterAll(() => setup.cleanup());
    beforeEach(() => {
      house = new ContractHouse(setup);
    });
    afterEach(() => house[Symbol.asyncDispose]());

    describe("exec", () => execContract(() => house));
    describe("files", () => fileContract(() => house));

    test("says who the engine is", async () => {
      const engine = await backend.engine();
      expect(engine.engine_id).not.toBe("");
      expect(engine.runtimes.length).toBeGreaterThan(0);
      expect(engine.cpus).toBeGreaterThan(0);
      expect(engine.memory_bytes).toBeGreaterThan(0);
      expect(await backend.engine()).toEqual(engine);
    });

    test("resolves an image, and says so when there is none", async () => {
      const image = await backend.resolveImage(setup.image);
      expect(image.image_id).not.toBe("");
      await expect(backend.resolveImage("localhost:1/no-such-image:1")).rejects.toMatchObject({
        code: expect.stringMatching(/^IMAGE_(NOT_FOUND|PULL_FAILED)$/),
      });
    });

    test("creates a sandbox whose guest is healthy", async () => {
      const { id, guest, spec } = await house.sandbox();
      const health = await guest.health();
      expect(health).toMatchObject({ api: 1, sandbox_id: id, state: "running", uid: spec.uid, execs: { running: 0 } });
      expect(await backend.status(id)).toMatchObject({ sandbox_id: id, state: "running", oom_killed: false });
    });

    test("refuses a second sandbox of the same id", async () => {
      const { id, guest, spec } = await house.sandbox();
      await expect(backend.create(spec)).rejects.toMatchObject({ name: "SandboxError" });
      expect((await guest.health()).sandbox_id).toBe(id);
    });

    test("lists its own sandboxes and no other install's", async () => {
      const { id } = await house.sandbox();
      expect((await backend.list()).map(({ sandbox_id }) => sandbox_id)).toContain(id);
      expect(await setup.otherInstall.list()).toEqual([]);
      expect(await setup.otherInstall.status(id)).toBeUndefined();
      await setup.otherInstall.remove(id);
      expect(await backend.status(id)).toMatchObject({ state: "running" });
    });

    test("knows nothing of what was never created", async () => {
      const id = newSandboxId();
      expect(await backend.status(id)).toBeUndefined();
      await backend.kill(id);
      await backend.remove(id);
      await expect(backend.connect(id)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
    });

    test("a lease that a server extended is not over with the boot lease", async () => {
      const { id, guest } = await house.sandbox({ boot_lease_ms: 8000 });
      const lease = await guest.setLease({ ttl_ms: 600_000, idle_ms: 300_000 });
      expect(lease.claimed).toBe(true);
      expect(lease.ttl_remaining_ms).toBeGreaterThan(590_000);
      expect(lease.idle_remaining_ms).toBeGreaterThan(290_000);
      expect((await guest.health()).lease.ttl_remaining_ms).toBeLessThanOrEqual(600_000);
      // Longer than the boot lease was: if it still counted, the view would break off.
      const waited = await guest.startExec(
        newExecId("tests", 0),
        { command: "sleep 8.5; echo alive" },
        { wait_ms: 30_000 },
      );
      expect(waited.exec.exit_code).toBe(0);
      expect(await backend.status(id)).toMatchObject({ state: "running" });
    });

    test.each([
      ["boot", 82, undefined],
      ["ttl", 80, { ttl_ms: 300, idle_ms: 60_000 }],
      ["idle", 81, { ttl_ms: 60_000, idle_ms: 300 }],
    ])("ends when its %s lease is over, with exit code %i", async (lease, exitCode, change) => {
      const watch = house.watch();
      const { sandbox_id: id } = await house.create({ boot_lease_ms: change ? 60_000 : 1500 });
      // Nobody is there to be told when the boot lease ends.
      if (change) {
        const guest = await house.connect(id);
        await guest.setLease(change);
        await guest.closed;
      }
      expect(await watch.died(id)).toMatchObject({ exit_code: exitCode });
      expect(await backend.status(id)).toMatchObject({ state: "exited", exit_code: exitCode });
      const words = parseFlightRecorder(await backend.lastWords(id));
      expect(words).toContainEqual(expect.objectContaining({ kind: "lease.over", lease }));
    });

    test("a running exec keeps the sandbox from idling, and its ttl ends it all the same", async () => {
      const watch = house.watch();
      const { id, guest } = await house.sandbox();
      await guest.startExec(newExecId("tests", 0), { command: "sleep 600" }, {});
      await guest.setLease({ ttl_ms: 2000, idle_ms: 200 });
      expect(await watch.died(id)).toMatchObject({ exit_code: 80 });
    });

    test("shuts down when asked to, with exit code 0", async () => {
      const watch = house.watch();
      const { id, guest } = await house.sandbox();
      await guest.shutdown("the test is over");
      await guest.closed;
      expect(await watch.died(id)).toMatchObject({ exit_code: 0 });
    });

    test("a killed sandbox leaves a shell that is readable until it is removed", async () => {
      const watch = house.watch();
      const { id, guest } = await house.sandbox();
      const execId = newExecId("tests", 0);
      await guest.startExec(execId, { command: "sleep 600", meta: { from: "test" } }, {});
      await backend.kill(id);
      await guest.closed;
      expect(guest.isClosed).toBe(true);
      await expect(guest.health()).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE", retryable: true });
      expect(await watch.died(id)).toEqual({ kind: "died", sandbox_id: id, exit_code: 137 });
      expect(await backend.status(id)).toMatchObject({ state: "exited", exit_code: 137 });
      expect((await backend.list()).find(({ sandbox_id }) => sandbox_id === id)?.state).toBe("exited");
      const words = parseFlightRecorder(await backend.lastWords(id));
      expect(words[0]).toMatchObject({ seq: 1, kind: "boot", sandbox_id: id });
      expect(words[1]).toMatchObject({ seq: 2, kind: "exec.started", exec_id: execId, meta: { from: "test" } });
      await backend.kill(id);

      await backend.remove(id);
      expect(await watch.next((fact) => fact.kind === "removed" && fact.sandbox_id === id)).toBeDefined();
      expect(await backend.status(id)).toBeUndefined();
      await backend.remove(id);
    });

    test("connecting to an ended sandbox says that it ended", async () => {
      const { id } = await house.sandbox();
      await backend.kill(id);
      await expect(backend.connect(id)).rejects.toMatchObject({
        code: expect.stringMatching(/^SANDBOX_(ENDED|NOT_RUNNING)$/),
      });
    });

    test("removes a running sandbox", async () => {
      const { id, guest } = await house.sandbox();
      await backend.remove(id);
      await guest.closed;
      expect(await backend.status(id)).toBeUndefined();
    });

    test("serves two connections at once, and one's end is not the other's", async () => {
      const { id, guest } = await house.sandbox();
      const second = await house.connect(id);
      const execId = newExecId("tests", 0);
      await guest.startExec(execId, { command: "cat", keep_stdin: true }, {});
      const seen = second.viewExec(execId, { wait_ms: 20_000, until: "exit" });
      await guest.writeStdin(execId, Buffer.from("from the first"), true);
      expect((await seen).exec.exit_code).toBe(0);
      await guest[Symbol.asyncDispose]();
      await guest[Symbol.asyncDispose]();
      await guest.closed;
      expect((await second.health()).sandbox_id).toBe(id);
      expect(second.isClosed).toBe(false);
    });

    test("an exec outlives every connection", async () => {
      const { id, guest } = await house.sandbox();
      const execId = newExecId("tests", 0);
      await guest.startExec(execId, { command: "cat; echo survived", keep_stdin: true }, {});
      await guest[Symbol.asyncDispose]();
      const second = await house.connect(id);
      await second.writeStdin(execId, Buffer.alloc(0), true);
      const { exec, segments } = await second.viewExec(execId, { wait_ms: 20_000 });
      expect(exec.exit_code).toBe(0);
      expect(Buffer.concat(segments.map(({ bytes }) => bytes)).toString()).toBe("survived\n");
    });

    test("changes limits of a running sandbox", async () => {
      const { id, guest, spec } = await house.sandbox();
      await backend.update(id, { pids: 200, memory_mb: 160, workspace_mb: spec.resources.workspace_mb });
      const memory_limit_mb = memoryBudgetMb({ ...spec.resources, memory_mb: 160 });
      expect((await backend.status(id))?.limits).toEqual({ memory_limit_mb, cpus: spec.resources.cpus, pids: 200 });
      await guest.setLimits({ pids: 200 });
      const { pids } = await guest.stats();
      expect([200, null]).toContain(pids.limit);
      expect(
        (await guest.startExec(newExecId("tests", 0), { argv: ["true"] }, { wait_ms: 20_000 })).exec.exit_code,
      ).toBe(0);
    });

    test("an aborted call rejects and leaves the sandbox alone", async () => {
      const { id } = await house.sandbox();
      const signal = AbortSignal.abort();
      await expect(backend.connect(id, signal)).rejects.toMatchObject({ code: "ABORTED" });
      await expect(backend.remove(id, signal)).rejects.toMatchObject({ code: "ABORTED" });
      expect(await backend.status(id)).toMatchObject({ state: "running" });
    });

    test("a watch ends with its signal", async () => {
      const controller = new AbortController();
      const next = backend.watch(controller.signal)[Symbol.asyncIterator]().next();
      controller.abort();
      expect(await next).toMatchObject({ done: true });
    });
  });

  describe(`${name}, once disposed of`, () => {
    test("ends its watches, and may be disposed of again", async () => {
      const { backend, cleanup } = await make();
      const next = backend.watch(new AbortController().signal)[Symbol.asyncIterator]().next();
      await backend[Symbol.asyncDispose]();
      await backend[Symbol.asyncDispose]();
      expect(await next).toMatchObject({ done: true });
      await cleanup();
    });
  });
}
