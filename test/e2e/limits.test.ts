import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually, startServer, type TestServer } from "../support/server.ts";

interface Told {
  id: string;
  type: string;
  exec_id?: string;
  kind?: string;
  cause?: string;
  traceparent?: string;
  [field: string]: unknown;
}

const trace = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;

/** Each in a sandbox of its own, all at once: most of the time is waiting for the kernel's counters. */
describe.concurrent("a limit that is reached is told", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  const sandbox = async (args: Record<string, unknown> = {}) => {
    const id = String(
      (await server.ok("sandbox_create", { memory_mb: 48, workspace_mb: 16, pids: 96, wait_s: 50, ...args }))[
        "sandbox_id"
      ],
    );
    return {
      id,
      run: (command: string, more: Record<string, unknown> = {}) =>
        server.ok("exec_run", { sandbox_id: id, command, wait_s: 40, ...more }),
      async told(type?: string) {
        const { events } = await server.ok("sandbox_events", { sandbox_id: id, after: "start", limit: 200 });
        return (events as Told[]).filter((event) => type === undefined || event.type === type);
      },
      async [Symbol.asyncDispose]() {
        await server.call("sandbox_destroy", { sandbox_id: id });
      },
    };
  };
  type Sandbox = Awaited<ReturnType<typeof sandbox>>;
  const reached = async ({ told }: Sandbox, kind: string) =>
    (await told("limit.reached")).filter((e) => e.kind === kind);

  it("memory: which command, and its end follows from it", async () => {
    await using box = await sandbox();
    await using bystander = await sandbox();
    const sleeper = await box.run("sleep 60", { wait_s: 0 });
    const hungry = await box.run("exec tail -c 3000000000 /dev/zero");
    expect(hungry).toMatchObject({ status: "oom_killed", ended_by: "oom" });
    const events = await box.told();
    const started = events.find((e) => e.type === "exec.started" && e.exec_id === hungry["exec_id"]);
    const oom = events.find((e) => e.type === "limit.oom");
    const completed = events.find((e) => e.type === "exec.completed");
    expect(oom).toMatchObject({ exec_id: hungry["exec_id"], action: "killed", cause: started?.id });
    expect(completed).toMatchObject({ exec_id: hungry["exec_id"], status: "oom_killed", cause: oom?.id });
    expect(sleeper["status"]).toBe("running");
    expect(await bystander.told("limit.oom")).toEqual([]);

    // The engine remembers that something in it was killed for memory, but the sandbox did not end of that.
    await server.ok("sandbox_destroy", { sandbox_id: box.id });
    const [died] = await box.told("lifecycle.died");
    expect(died).toMatchObject({ exit_code: 137, oom_killed: false, expected: true });
    expect(died).not.toHaveProperty("cause");
    const { ended } = await server.ok("sandbox_get", { sandbox_id: box.id });
    expect(ended).toMatchObject({ reason: "request", oom_killed: false });
  });

  it("memory: which command, also when it ends a while after the kill", async () => {
    await using box = await sandbox();
    await box.run("sleep 60", { wait_s: 0 });
    const hungry = await box.run("tail -c 3000000000 /dev/zero; code=$?; sleep 1; exit $code");
    expect(hungry).toMatchObject({ status: "exited", exit_code: 137, oom_kills: 1 });
    expect(await box.told("limit.oom")).toMatchObject([{ exec_id: hungry["exec_id"] }]);
  });

  it("memory: never a command that was killed on request", async () => {
    await using box = await sandbox();
    const sleeper = await box.run("sleep 60", { wait_s: 0 });
    await box.run("tail -c 3000000000 /dev/zero; echo gone; sleep 60", { until_match: "gone", until: "output" });
    const exec = { sandbox_id: box.id, exec_id: sleeper["exec_id"] };
    expect(await server.ok("exec_kill", { ...exec, signal: "KILL" })).toMatchObject({ status: "killed", oom_kills: 0 });
    const ooms = await eventually("the kill is told", async () => {
      const events = await box.told("limit.oom");
      return events.length > 0 && events;
    });
    expect(ooms).toHaveLength(1);
    expect(ooms[0]).not.toHaveProperty("exec_id");
  });

  it("processes: once while the sandbox stays at the edge", async () => {
    await using box = await sandbox();
    const flood = "for i in $(seq 200); do sleep 60 & done 2>/dev/null; sleep 7";
    const exec = await box.run(flood);
    expect(exec["status"]).not.toBe("running");
    // Still there are as many as may be: the next commands meet the limit as well.
    for (let n = 0; n < 3; n++) await server.call("exec_run", { sandbox_id: box.id, command: "sleep 0.1; :" });
    const events = await reached(box, "pids");
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ action: "none", exec_id: exec["exec_id"] });
    expect(events[0]).toMatchObject({ limit: 96 });
    // Who was refused has ended.
    expect([95, 96]).toContain(events[0]?.["observed"]);
  });

  it("workspace: at 80 %, when full, and again only after there was room", async () => {
    await using box = await sandbox();
    // Straight there, since the guest may look at any moment: so many files of a MiB, as far as they fit.
    const grow = "dd if=/dev/zero of=f$n bs=1M count=1 2>/dev/null || break";
    const fill = (mb: number) =>
      box.run(
        `n=$(ls | wc -l); while [ $n -lt ${mb} ]; do n=$((n+1)); ${grow}; done; while [ $n -gt ${mb} ]; do rm -f f$n; n=$((n-1)); done`,
      );
    const count = async () => (await reached(box, "workspace")).length;
    await fill(8);
    expect(await count()).toBe(0);
    await fill(13);
    expect(await count()).toBe(1);
    // To and fro across the mark.
    for (const mb of [12, 14, 12, 13]) await fill(mb);
    expect(await count()).toBe(1);
    await fill(20);
    expect(await count()).toBe(2);
    for (const mb of [15, 20, 14, 20, 13, 15]) await fill(mb);
    expect(await count()).toBe(2);
    await fill(4);
    await fill(13);
    expect(await count()).toBe(3);
    const [at80, full] = await reached(box, "workspace");
    expect(Number(at80?.["observed"]) / Number(at80?.["limit"])).toBeGreaterThanOrEqual(0.8);
    expect(Number(full?.["observed"]) / Number(full?.["limit"])).toBeGreaterThan(0.98);
  });

  it("processor: when commands are held back for long, once", async () => {
    await using box = await sandbox({ cpus: 0.1 });
    const exec = await box.run("while :; do :; done", { wait_s: 0 });
    const [held] = await eventually(
      "the throttling is told",
      async () => {
        const found = await reached(box, "cpu");
        return found.length > 0 && found;
      },
      90_000,
    );
    expect(held).toMatchObject({ action: "throttled", limit: 0.1, exec_id: exec["exec_id"] });
    expect(Number(held?.["observed"])).toBeGreaterThan(2_000);
    // Another round of the guest's look, and more.
    await box.run("sleep 5");
    expect(await reached(box, "cpu")).toHaveLength(1);
  }, 180_000);

  it("time and output: whose, and with the trace of the call that asked", async () => {
    await using box = await sandbox();
    const meta = { traceparent: trace };
    const call = (args: Record<string, unknown>) =>
      server.client.callTool({ name: "exec_run", arguments: { sandbox_id: box.id, ...args }, _meta: meta });
    await call({ command: "sleep 60", timeout_s: 0.5 });
    await call({ command: "head -c 20000000 /dev/zero | tr '\\0' a" });
    const events = await box.told();
    const chain = (kind: string) => {
      const limit = events.find((e) => e.type === "limit.reached" && e.kind === kind);
      const started = events.find((e) => e.type === "exec.started" && e.exec_id === limit?.exec_id);
      const completed = events.find((e) => e.type === "exec.completed" && e.exec_id === limit?.exec_id);
      return { limit, started, completed };
    };
    const time = chain("time");
    expect(time.limit).toMatchObject({ action: "killed", limit: 500, cause: time.started?.id });
    expect(time.completed).toMatchObject({ status: "timed_out", cause: time.limit?.id });
    const output = chain("output");
    expect(output.limit).toMatchObject({ action: "none", cause: output.started?.id });
    expect(output.completed).toMatchObject({ status: "exited", cause: output.started?.id });
    const { events: asPublished } = await server.ok("sandbox_events", {
      sandbox_id: box.id,
      after: "start",
      types: ["exec.started", "exec.completed", "limit.reached"],
      format: "cloudevents",
    });
    expect((asPublished as Told[]).map(({ traceparent }) => traceparent)).toEqual(Array(6).fill(trace));
  });

  it("a lease: the end follows from its announcement", async () => {
    await using box = await sandbox({ ttl_s: 3 });
    const events = await eventually("it has ended", async () => {
      const all = await box.told();
      return all.at(-1)?.type === "lifecycle.destroyed" && all;
    });
    const by = (type: string) => events.find((event) => event.type === type);
    expect(by("lifecycle.died")?.cause).toBe(by("lifecycle.expiring")?.id);
    expect(by("lifecycle.expiring")?.id).toBeDefined();
    expect(by("lifecycle.destroyed")).toMatchObject({ reason: "ttl", cause: by("lifecycle.died")?.id });
  });

  it("secrets stay out of what is told: values of the environment, tokens in URLs and arguments", async () => {
    await using box = await sandbox({ env: { API: "value-of-the-sandbox" } });
    await box.run("echo value-of-the-sandbox value-of-the-call", { env: { MINE: "value-of-the-call" } });
    await server.ok("exec_run", {
      sandbox_id: box.id,
      argv: ["echo", "https://me:url-secret@host/x", "--token", "argv-secret", "PASSWORD=set-secret", "plain"],
    });
    const text = JSON.stringify(await server.ok("sandbox_events", { sandbox_id: box.id, after: "start", limit: 200 }));
    expect(text).not.toMatch(/value-of|url-secret|argv-secret|set-secret/);
    expect(text).toContain("plain");
  });
});
