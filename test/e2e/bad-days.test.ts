import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { containersOf, engine, killContainer } from "../support/engine.ts";
import { eventually, onSmallDisk, startServer, type TestServer } from "../support/server.ts";

interface Told {
  type: string;
  sequence: number;
  exec_id?: string;
  status?: string;
  reason?: string;
  time: string;
}

async function eventsOf(server: TestServer, id: string): Promise<Told[]> {
  const { events } = await server.ok("sandbox_events", { sandbox_id: id, after: "start", limit: 200 });
  return events as Told[];
}

/** Exactly one end per exec, one terminal event, gapless sequences. */
function expectWholeStory(events: Told[]): void {
  expect(events.map((event) => event.sequence)).toEqual(events.map((_, i) => i + 1));
  const execs = (type: string) =>
    events
      .filter((event) => event.type === type)
      .map((event) => event.exec_id)
      .sort();
  expect(execs("exec.completed")).toEqual(execs("exec.started"));
  expect(events.filter((event) => /destroyed|failed/.test(event.type)).length).toBe(1);
  expect(events.at(-1)?.type).toMatch(/lifecycle\.(destroyed|failed)/);
}

describe("bad days", () => {
  let dataDir: string;
  let servers: TestServer[];
  const start = async (options: Parameters<typeof startServer>[0] = {}) => {
    const server = await startServer({ dataDir, ...options });
    servers.push(server);
    return server;
  };
  beforeEach(() => {
    dataDir = path.join(mkdtempSync(path.join(tmpdir(), "chorus-days-")), "data");
    servers = [];
  });
  afterEach(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
    rmSync(path.dirname(dataDir), { recursive: true, force: true });
  });
  const create = async (server: TestServer, args: Record<string, unknown> = {}) =>
    String((await server.ok("sandbox_create", args))["sandbox_id"]);

  it("a guest killed through the engine: the call in flight and all later ones say so, and the story is whole", async () => {
    const server = await start();
    const id = await create(server);
    const running = server.call("exec_run", { sandbox_id: id, command: "echo started; sleep 60", wait_s: 30 });
    await eventually("the exec runs", async () =>
      (await eventsOf(server, id)).some((event) => event.type === "exec.started"),
    );
    await killContainer(id);
    expect((await running).error).toMatchObject({ code: "SANDBOX_ENDED", message: expect.stringContaining("it died") });
    const later = await server.call("exec_run", { sandbox_id: id, command: "true" });
    expect(later.error?.code).toBe("SANDBOX_ENDED");
    const view = await server.ok("sandbox_get", { sandbox_id: id });
    expect(view).toMatchObject({ state: "ended", ended: { reason: "died", exit_code: 137 } });
    const events = await eventsOf(server, id);
    expectWholeStory(events);
    expect(events.find((event) => event.type === "exec.completed")?.status).toBe("lost");
    await eventually("the shell is removed", async () => (await containersOf([id])).length === 0);
  });

  it("SIGKILL of the server mid-exec: the next one finds the exec running, its output whole, and its end", async () => {
    const first = await start();
    const id = await create(first);
    const exec = await first.ok("exec_run", {
      sandbox_id: id,
      command: "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; exit 7",
      wait_s: 0.2,
    });
    expect(exec["status"]).toBe("running");
    await first.kill();

    const second = await start();
    const done = await second.ok("exec_output", { sandbox_id: id, exec_id: exec["exec_id"], wait_s: 20 });
    expect(done).toMatchObject({
      status: "exited",
      exit_code: 7,
      stdout: "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n",
    });
    await second.ok("sandbox_destroy", { sandbox_id: id });
    const events = await eventsOf(second, id);
    expectWholeStory(events);
    expect(events.find((event) => event.type === "exec.completed")?.status).toBe("exited");
  });

  it("SIGKILL of the server while a call waits: nothing is lost or told twice", async () => {
    const first = await start();
    const id = await create(first);
    const waiting = first
      .call("exec_run", { sandbox_id: id, command: "sleep 1; echo done", wait_s: 30 })
      .catch(() => undefined);
    await eventually("the exec runs", async () =>
      (await eventsOf(first, id)).some((event) => event.type === "exec.started"),
    );
    await first.kill();
    await waiting;
    const second = await start();
    const [row] = (await second.ok("exec_list", { sandbox_id: id }))["execs"] as { exec_id: string }[];
    const done = await second.ok("exec_output", { sandbox_id: id, exec_id: row?.exec_id, wait_s: 20 });
    expect(done).toMatchObject({ status: "exited", exit_code: 0, stdout: "done\n" });
    await second.ok("sandbox_destroy", { sandbox_id: id });
    expectWholeStory(await eventsOf(second, id));
  });

  it.each([0, 60, 150, 250])(
    "SIGKILL of the server %i ms after the intent of a create: adopted or removed, never leaked",
    async (ms) => {
      const first = await start();
      const onlooker = await start();
      await onlooker.ok("sandbox_list");
      const creating = first.call("sandbox_create", { name: "half" }).catch(() => undefined);
      await eventually(
        "the intent is kept",
        async () => ((await onlooker.ok("sandbox_list"))["sandboxes"] as unknown[]).length === 1,
      );
      // Not a wait for anything: the moment of the kill is what is tried out.
      await sleep(ms);
      await Promise.all([first.kill(), onlooker.kill()]);
      await creating;

      const second = await start();
      const settled = await eventually(
        "the sandbox is running or failed",
        async () => {
          const { sandboxes } = await second.ok("sandbox_list", { include_ended: true });
          const rows = sandboxes as { sandbox_id: string; state: string }[];
          return rows.every((row) => row.state !== "creating") && rows;
        },
        40_000,
      );
      expect(settled).toHaveLength(1);
      for (const { sandbox_id, state } of settled) {
        if (state === "running") {
          expect(await second.ok("exec_run", { sandbox_id, command: "echo usable" })).toMatchObject({
            stdout: "usable\n",
          });
          await second.ok("sandbox_destroy", { sandbox_id });
        }
        expectWholeStory(await eventsOf(second, sandbox_id));
      }
      const ids = settled.map((row) => row.sandbox_id);
      await eventually("nothing is left", async () => (await containersOf(ids)).length === 0);
    },
  );

  it("a lease that runs out with no server alive: the sandbox ends itself, the next server tells and removes the shell", async () => {
    const first = await start();
    const id = await create(first, { ttl_s: 2 });
    await first.ok("exec_run", { sandbox_id: id, command: "sleep 100", wait_s: 0 });
    await first.kill();
    await eventually(
      "the sandbox has ended itself",
      async () => (await containersOf([id]))[0]?.state === "exited",
      20_000,
    );
    const ended = Date.now();
    const second = await start();
    expect(await second.ok("sandbox_get", { sandbox_id: id })).toMatchObject({
      state: "ended",
      ended: { reason: "ttl", exit_code: 80 },
    });
    const story = await eventsOf(second, id);
    expectWholeStory(story);
    expect(Date.parse(story.at(-1)?.time ?? "")).toBeLessThanOrEqual(ended);
    expect(story.at(-1)).toMatchObject({
      totals: { cpu_ms: expect.any(Number), peak_memory_bytes: expect.any(Number), execs: 1 },
    });
    await eventually("the shell is removed", async () => (await containersOf([id])).length === 0);
  });

  it("idle sandboxes end, busy ones stay", async () => {
    const server = await start();
    const idle = await create(server, { idle_s: 3 });
    const busy = await create(server, { idle_s: 3 });
    await server.ok("exec_run", { sandbox_id: busy, command: "sleep 30", wait_s: 0 });
    await eventually(
      "the idle one ends",
      async () => (await server.ok("sandbox_get", { sandbox_id: idle }))["state"] === "ended",
      20_000,
    );
    expect(await server.ok("sandbox_get", { sandbox_id: idle })).toMatchObject({ ended: { reason: "idle" } });
    expect(await server.ok("sandbox_get", { sandbox_id: busy })).toMatchObject({ state: "running", running_execs: 1 });
    await server.ok("sandbox_destroy", { sandbox_id: busy });
  });

  it("two servers on one data dir share sandboxes, execs and events", async () => {
    const [one, two] = [await start({ name: "one" }), await start({ name: "two" })];
    const id = await create(one, { name: "shared", env: { WHO: "one" } });
    expect(await two.ok("exec_run", { sandbox_id: "shared", command: "echo $WHO" })).toMatchObject({ stdout: "one\n" });
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? one : two).ok("exec_run", { sandbox_id: id, command: `echo ${i}` }),
      ),
    );
    expect(results.map((result) => result["stdout"])).toEqual(Array.from({ length: 20 }, (_, i) => `${i}\n`));
    const waiting = one.ok("sandbox_events", {
      sandbox_id: id,
      after: "now",
      types: ["lifecycle.destroyed"],
      wait_s: 20,
    });
    await two.ok("sandbox_destroy", { sandbox_id: id });
    expect((await waiting)["events"]).toMatchObject([{ type: "lifecycle.destroyed", reason: "request" }]);
    const [seenByOne, seenByTwo] = [await eventsOf(one, id), await eventsOf(two, id)];
    expect(seenByOne).toEqual(seenByTwo);
    expectWholeStory(seenByOne);
    expect(seenByOne.filter((event) => event.type === "exec.started").length).toBe(21);
  });

  it("two data dirs on one engine never touch each other", async () => {
    const mine = await start();
    await using theirs = await startServer();
    const id = await create(mine);
    expect((await theirs.ok("sandbox_list"))["sandboxes"]).toEqual([]);
    expect((await theirs.call("sandbox_get", { sandbox_id: id })).error?.code).toBe("SANDBOX_NOT_FOUND");
    expect((await theirs.call("sandbox_destroy", { sandbox_id: id })).error?.code).toBe("SANDBOX_NOT_FOUND");
    const other = await create(theirs);
    await theirs.ok("sandbox_destroy", { sandbox_id: other });
    expect(await mine.ok("exec_run", { sandbox_id: id, command: "true" })).toMatchObject({ exit_code: 0 });
    await mine.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("a sandbox someone removed behind our back is told as reconciled", async () => {
    const server = await start();
    const id = await create(server);
    await server.kill();
    await engine().getContainer(id).remove({ force: true });
    const next = await start();
    expect(await next.ok("sandbox_get", { sandbox_id: id })).toMatchObject({
      state: "ended",
      ended: { reason: "reconciled" },
    });
    expectWholeStory(await eventsOf(next, id));
  });

  it("cancelling kills what the call started", async () => {
    const server = await start();
    const id = await create(server);
    const stop = new AbortController();
    const call = server
      .call("exec_run", { sandbox_id: id, command: "sleep 302", wait_s: 40 }, { signal: stop.signal })
      .catch(() => undefined);
    await eventually("the exec runs", async () =>
      (await eventsOf(server, id)).some((event) => event.type === "exec.started"),
    );
    stop.abort();
    await call;
    const done = await eventually("the exec is over", async () =>
      (await eventsOf(server, id)).find((event) => event.type === "exec.completed"),
    );
    expect(done).toMatchObject({ status: "killed", ended_by: "cancel" });
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("a client that goes away detaches: its commands run on", async () => {
    const first = await start();
    const id = await create(first);
    const exec = await first.ok("exec_run", { sandbox_id: id, command: "sleep 1; echo survived", wait_s: 0 });
    await first.client.close();
    await eventually("the server has left", () => {
      try {
        process.kill(first.pid, 0);
        return false;
      } catch {
        return true;
      }
    });
    const second = await start();
    expect(await second.ok("exec_output", { sandbox_id: id, exec_id: exec["exec_id"], wait_s: 20 })).toMatchObject({
      status: "exited",
      stdout: "survived\n",
    });
    await second.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("NATS that is not there delays and fails nothing", async () => {
    const server = await start({ env: { NATS_URL: "nats://127.0.0.1:1" } });
    const id = await create(server);
    const started = performance.now();
    for (let i = 0; i < 20; i++) await server.ok("exec_run", { sandbox_id: id, argv: ["true"] });
    expect(performance.now() - started).toBeLessThan(10_000);
    await server.ok("sandbox_destroy", { sandbox_id: id });
    expectWholeStory(await eventsOf(server, id));
  });

  it("an engine that is not there is one clear error, and what needs no engine still works", async () => {
    const server = await start({ env: { DOCKER_HOST: "unix:///nonexistent/docker.sock" } });
    const refused = await server.call("sandbox_create");
    expect(refused.error).toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: true });
    expect(refused.text).toMatch(/nonexistent\/docker\.sock/);
    expect((await server.ok("sandbox_list"))["sandboxes"]).toEqual([]);
    expect((await server.ok("sandbox_events"))["events"]).toEqual([]);
  });

  it("a full disk under the data dir: calls that would lose something are refused, the rest works, and later all of it is told", async () => {
    const server = await start({ prefix: onSmallDisk(dataDir, 16) });
    const id = await create(server);
    const other = await create(server);
    // The server's own view: the disk is mounted for it alone.
    const filler = `/proc/${server.pid}/root${dataDir}/filler`;
    expect(() => writeFileSync(filler, Buffer.alloc(16 * 2 ** 20))).toThrow(/ENOSPC/);
    const sandbox = { sandbox_id: id };
    const refused = {
      exec_run: { ...sandbox, command: "touch ran" },
      file_write: { ...sandbox, files: [{ path: "written", content: "x" }] },
      file_manage: { ...sandbox, op: "mkdir", path: "made" },
      sandbox_create: {},
    };
    for (const [tool, args] of Object.entries(refused)) {
      const { error } = await server.call(tool, args);
      expect(`${tool}: ${error?.code} ${error?.message}`).toContain(
        "LIMIT_EXCEEDED The disk that holds the store is full",
      );
    }
    expect(await server.ok("sandbox_get", sandbox)).toMatchObject({ state: "running" });
    expect(await server.ok("sandbox_stats", sandbox)).toHaveProperty("memory");
    expect(await server.ok("file_list", sandbox)).toMatchObject({ entries: [] });
    // What fills the disk may be stopped and ended.
    expect(await server.ok("sandbox_update", { sandbox_id: other, paused: true })).toMatchObject({ state: "paused" });
    expect(await server.ok("sandbox_destroy", { sandbox_id: other })).toMatchObject({ destroyed: true });
    rmSync(filler);
    await server.ok("exec_run", { ...sandbox, command: "echo room" });
    await server.ok("sandbox_destroy", sandbox);
    const events = await eventsOf(server, id);
    expectWholeStory(events);
    // What was refused has not been done.
    expect(events.filter((event) => event.type === "exec.completed")).toHaveLength(1);
    expect(events.map((event) => event.type)).not.toContain("file.changed");
  });

  it("bad settings stop the start with one message", async () => {
    const message = await startServer({ env: { CHORUS_SANDBOX_POOL: "lots", LOG_LEVEL: "loud" } }).then(
      () => "it started",
      String,
    );
    for (const part of ["2 bad setting(s)", 'CHORUS_SANDBOX_POOL="lots"', 'LOG_LEVEL="loud"'])
      expect(message).toContain(part);
  });
});
