import { expect, it, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import type { ExecSnapshot, ExecView, Guest } from "../../../src/sandbox/guest/types.ts";
import { newExecId } from "../../../src/sandbox/ids.ts";
import { drainFacts } from "../../../src/sandbox/ingest.ts";
import type { ExecResult } from "../../../src/sandbox/views.ts";
import { deadline } from "../../../src/sandbox/wait.ts";
import { call, entries, fakeOf, recordOf, type TestProcess, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

/** What this process asks the guest when it starts execs. */
async function starts(process: TestProcess, id: string) {
  const asked: { execId: string; view: ExecView }[] = [];
  const open = process.core.connections.guest.bind(process.core.connections);
  const watched = new WeakSet<Guest>();
  vi.spyOn(process.core.connections, "guest").mockImplementation(async (...args) => {
    const guest = await open(...args);
    if (watched.has(guest)) return guest;
    watched.add(guest);
    const startExec = guest.startExec.bind(guest);
    vi.spyOn(guest, "startExec").mockImplementation((execId, start, view, signal) => {
      asked.push({ execId, view });
      return startExec(execId, start, view, signal);
    });
    return guest;
  });
  await process.core.connections.drop(id);
  return asked;
}

/** Lets the exec end, and another process tell of it, once the guest has said that it runs and before the caller hears that. */
async function endsBehind(process: TestProcess, other: TestProcess, id: string) {
  const guest = await process.core.connections.guest(id);
  const end = async (snapshot: ExecSnapshot): Promise<ExecSnapshot> => {
    if (snapshot.exec.status !== "running") return snapshot;
    const others = await other.core.connections.guest(id);
    await others.killExec(snapshot.exec.exec_id, { grace_ms: 0 });
    await drainFacts(other.core, id, others, deadline(5_000));
    return snapshot;
  };
  const [startExec, viewExec] = [guest.startExec.bind(guest), guest.viewExec.bind(guest)];
  vi.spyOn(guest, "startExec").mockImplementation(async (...args) => end(await startExec(...args)));
  vi.spyOn(guest, "viewExec").mockImplementation(async (...args) => end(await viewExec(...args)));
}

it.each<[string, (process: TestProcess, id: string, endsNow: () => Promise<void>) => Promise<ExecResult>]>([
  [
    "exec_run",
    async ({ service }, id, endsNow) => {
      await endsNow();
      return service.execRun(id, { command: "sleep 600", wait_s: 0 }, call);
    },
  ],
  [
    "exec_run until output",
    async ({ service }, id, endsNow) => {
      await endsNow();
      return service.execRun(id, { command: "echo on; sleep 600", until: "output" }, call);
    },
  ],
  [
    "exec_output",
    async ({ service }, id, endsNow) => {
      const { exec_id } = await service.execRun(id, { command: "sleep 600", wait_s: 0 }, call);
      await endsNow();
      return service.execOutput(id, exec_id, {}, call);
    },
  ],
  [
    "exec_kill",
    async ({ service }, id, endsNow) => {
      const { exec_id } = await service.execRun(id, { command: "sleep 600", wait_s: 0 }, call);
      await endsNow();
      return service.execKill(id, exec_id, { signal: "CONT" }, call);
    },
  ],
])("what follows the cursor of %s has the end, also when another process told it meanwhile", async (_, ask) => {
  const world = new World();
  const [process, other] = [await world.process(), await world.process()];
  const id = await process.create();
  const answer = await ask(process, id, () => endsBehind(process, other, id));
  expect(answer.status).toBe("running");
  expect(told(process.store, id, "exec.completed")).toHaveLength(1);
  const { events } = await process.service.events(
    { sandbox_id: id, exec_id: answer.exec_id, after: answer.event_cursor },
    call,
  );
  expect(events.map(({ type }) => type)).toEqual(["exec.completed"]);
});

it("a connection that breaks while a call waits: the exec ran once and the call gets its end, within its own wait", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const asked = await starts(process, id);
  const running = process.service.execRun(id, { command: "sleep 2; echo done", wait_s: 20 }, call);
  await eventually("it runs", () => fakeOf(world.engine, id).guest.runningExecs === 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  world.engine.dropConnections(id);
  expect(await running).toMatchObject({ status: "exited", stdout: "done\n" });
  expect(told(process.store, id, "exec.started")).toHaveLength(1);
  expect(told(process.store, id, "exec.completed")).toHaveLength(1);
  expect(new Set(asked.map(({ execId }) => execId)).size).toBe(1);
  // Clients give up after 60 s: a second attempt has only what is left of the wait.
  expect(asked[1]?.view.wait_ms).toBeLessThanOrEqual(19_900);
});

it("a connection that breaks while files are written: not repeated, and said to be unknown", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  let writes = 0;
  const write = guest.files.write.bind(guest.files);
  guest.files.write = (files) => {
    writes += 1;
    const written = write(files);
    world.engine.dropConnections(id);
    return written;
  };
  const refused = process.service.fileWrite(id, [{ path: "a", content: "1" }], call);
  await expect(refused).rejects.toMatchObject({
    code: "GUEST_UNAVAILABLE",
    message: expect.stringContaining("not known"),
    next: expect.stringContaining("file_read"),
  });
  expect(writes).toBe(1);
  expect((await process.service.fileRead(id, { path: "a" }, call)).content).toBe("1");
});

it.each(["TIMEOUT", "GUEST_UNAVAILABLE"] as const)(
  "a start that %s leaves unanswered is not to be repeated: exec_output tells whether it runs, and each start has one end",
  async (code) => {
    const world = new World();
    const process = await world.process();
    await process.keep();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    const startExec = guest.startExec.bind(guest);
    const unanswered = new SandboxError(code, "The guest did not answer.");
    const asked: string[] = [];
    const run = async (gotThrough: boolean) => {
      vi.spyOn(guest, "startExec").mockImplementation(async (execId, ...rest) => {
        asked.push(execId);
        if (gotThrough) await startExec(execId, ...rest);
        throw unanswered;
      });
      await expect(process.exec(id, "echo ran")).rejects.toMatchObject({
        ...{ code, retryable: false, message: expect.stringContaining("not known") },
        next: expect.stringMatching(new RegExp(`exec_output .*${id}.*${asked.at(-1)}.*EXEC_NOT_FOUND`)),
      });
      return asked.at(-1) ?? "";
    };

    const ran = await run(true);
    expect(await process.service.execOutput(id, ran, { wait_s: 10 }, call)).toMatchObject({ stdout: "ran\n" });
    const never = await run(false);
    await expect(process.service.execOutput(id, never, {}, call)).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
    await eventually("its end is told", () => told(process.store, id, "exec.completed").length === 1);
    await process.service.destroy(id, call);
    for (const type of ["exec.started", "exec.completed"])
      expect(told(process.store, id, type)).toMatchObject([{ exec_id: ran }]);
    expect(asked).toHaveLength(2);
  },
);

it("a start that was never sent may be repeated", async () => {
  const process = await new World().process();
  const id = await process.create();
  await process.core.connections.drop(id);
  process.backend.hooks.connect = () => Promise.reject(new SandboxError("GUEST_UNAVAILABLE", "Not now."));
  await expect(process.exec(id, "true")).rejects.toMatchObject({ message: "Not now.", retryable: true });
});

it("cancelling kills what was started, also when the kill overtakes the start", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  const stop = new AbortController();
  const running = process.service.execRun(id, { command: "sleep 600" }, { ...call, signal: stop.signal });
  await eventually("it runs", () => guest.runningExecs === 1);
  const find = guest.exec.bind(guest);
  vi.spyOn(guest, "exec").mockImplementationOnce((execId) => find(`not-yet-${execId}`));
  stop.abort();
  await expect(running).rejects.toMatchObject({ code: "ABORTED" });
  await eventually("it was killed", () => guest.runningExecs === 0);
  await process.exec(id, "true");
  expect(told(process.store, id, "exec.completed")).toMatchObject([{ status: "killed", ended_by: "cancel" }, {}]);
});

it("a list has all that run, however many came after", async () => {
  const process = await new World().process();
  const id = await process.create();
  const server = await process.service.execRun(id, { command: "sleep 600", wait_s: 0 }, call);
  for (let i = 0; i < 210; i++) await process.exec(id, "true");
  const { execs } = await process.service.execList(id, call);
  expect(execs).toHaveLength(201);
  expect(execs.find(({ exec_id }) => exec_id === server.exec_id)).toMatchObject({ status: "running" });
  expect(execs[0]).toMatchObject({ status: "exited", exit_code: 0 });
});

it("the view falls back on the store where the guest says nothing", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create({ ttl_s: 500 });
  await process.service.execRun(id, { command: "sleep 600", wait_s: 0 }, call);
  world.engine.unreachable(true);
  world.engine.dropConnections(id);
  await eventually("the session is lost", () => process.core.connections.peek(id) === undefined);
  const view = await process.service.get(id, {}, call);
  expect(view).toMatchObject({ state: "running", running_execs: 1, idle_in_s: null, last_command: "sleep 600" });
  expect(view.expires_in_s).toBeGreaterThan(400);
});

it("secrets of env and arguments stand in no event and no record", async () => {
  const process = await new World().process();
  const secret = "hunter2hunter2";
  const token = `ghp_${"a1".repeat(20)}`;
  const id = await process.create({ env: { DB_PASSWORD: secret } });
  await process.service.execRun(id, { argv: ["echo", token, `--token=${secret}x`] }, call);
  await process.service.execRun(id, { command: `echo ${secret} https://me:${secret}@host/` }, call);
  await process.service.execRun(id, { command: "echo inner-secret", env: { INNER: "inner-secret" } }, call);
  await process.service.update(id, { env: { OTHER: "otherwise-secret", DB_PASSWORD: null } }, call);
  await expect(process.create({ env: { A: secret }, memory_mb: 1_000_000 })).rejects.toMatchObject({
    code: "POLICY_DENIED",
  });
  await process.service.destroy(id, call);
  const kept = JSON.stringify([
    process.store.journal.after(0, { limit: 1_000 }),
    recordOf(process.store, id),
    process.store.execs(id, 100),
  ]);
  for (const word of [secret, token, "inner-secret", "otherwise-secret"]) expect(kept).not.toContain(word);
  expect(entries(process.store, id).length).toBeGreaterThan(8);
});

it("says one time of its start, whoever asks", async () => {
  const process = await new World().process();
  const id = await process.create();
  const { exec_id, started_at } = await process.exec(id, "true");
  const { execs } = await process.service.execList(id, call);
  const [told] = entries(process.store, id).filter(({ type }) => type === "exec.started");
  expect([execs[0]?.exec_id, execs[0]?.started_at, told?.time]).toEqual([exec_id, started_at, started_at]);
});

it.each(["its facts", "the facts behind the first page"])(
  "a command that ran while the disk became full for %s is answered, and told once there is room",
  async (which) => {
    const process = await new World().process();
    const id = await process.create();
    const guest = await process.core.connections.guest(id);
    if (which === "the facts behind the first page")
      for (let n = 0; n < 200; n++)
        await guest.startExec(newExecId(process.store.installId, n), { command: "true" }, { wait_ms: 10_000 });
    const write = process.store.write.bind(process.store);
    let writes = which === "its facts" ? 0 : 1;
    vi.spyOn(process.store, "write").mockImplementation(async (...args) => {
      if (--writes < 0) throw new SandboxError("LIMIT_EXCEEDED", "The disk is full.");
      return write(...args);
    });
    const { stdout, exec_id } = await process.exec(id, "echo once");
    expect(stdout).toBe("once\n");
    expect(process.store.exec(id, exec_id)?.completed).toBeUndefined();
    // What was running is read and ended all the same.
    expect((await process.service.execOutput(id, exec_id, {}, call)).stdout).toBe("once\n");
    expect((await process.service.execKill(id, exec_id, {}, call)).exit_code).toBe(0);
    vi.restoreAllMocks();
    await drainFacts(process.core, id, guest, call.signal);
    expect(process.store.exec(id, exec_id)?.completed).toMatchObject({ exit_code: 0 });
  },
);

it("a command is not started while the disk is full", async () => {
  const process = await new World().process();
  const id = await process.create();
  const asked = await starts(process, id);
  vi.spyOn(process.store, "requireRoom").mockImplementationOnce(() => {
    throw new SandboxError("LIMIT_EXCEEDED", "The disk is full.");
  });
  await expect(process.exec(id, "true")).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
  await process.exec(id, "true");
  expect(asked).toHaveLength(1);
});
