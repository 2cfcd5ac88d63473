import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { enginePaths, startPrivateEngine, stopPrivateEngine } from "../../scripts/lib/engine-private.mjs";
import { findProcesses } from "../../scripts/lib/processes.mjs";
import { ensureTestImages } from "../../scripts/lib/test-images.mjs";
import { eventually, startServer, throughTheEngine } from "../support/server.ts";

/** An engine of this test's own, since it gets killed. */
describe("an engine that dies", () => {
  let root: string;
  let paths: ReturnType<typeof enginePaths>;
  beforeAll(async () => {
    root = mkdtempSync("/tmp/chorus-away-");
    process.env["CHORUS_DEV_DIR"] = root;
    paths = enginePaths(root);
    await ensureTestImages(await startPrivateEngine(paths));
  });
  afterAll(async () => {
    await stopPrivateEngine(paths);
    rmSync(root, { recursive: true, force: true });
  });

  it("under a running command: a clear error at once, nothing taken for dead, and the whole story once it is back", async () => {
    await using server = await startServer({
      env: { DOCKER_HOST: `unix://${paths.socket}` },
      prefix: throughTheEngine,
    });
    const id = String((await server.ok("sandbox_create"))["sandbox_id"]);
    const running = server.call("exec_run", { sandbox_id: id, command: "sleep 100", wait_s: 40 });
    const types = async () => {
      const { events } = await server.ok("sandbox_events", { sandbox_id: id, after: "start", limit: 100 });
      return (events as { type: string }[]).map((event) => event.type);
    };
    await eventually("the exec runs", async () => (await types()).includes("exec.started"));

    process.kill(Number(readFileSync(paths.pid, "utf8")), "SIGKILL");
    const interrupted = await running;
    // The command may go on: to run it again is no way to find out.
    expect(interrupted.error).toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: false });
    expect(interrupted.error?.next).toMatch(/engine.*exec_output/i);

    // Unknown is not absent: the sandbox is still listed as it was, and its end can be ordered.
    expect((await server.ok("sandbox_list"))["sandboxes"]).toMatchObject([{ sandbox_id: id, state: "running" }]);
    expect((await types()).filter((type) => type.startsWith("lifecycle.d"))).toEqual([]);
    const destroyed = await server.call("sandbox_destroy", { sandbox_id: id });
    expect(destroyed.error).toMatchObject({ code: "BACKEND_UNAVAILABLE" });
    expect(destroyed.text).toMatch(/noted/);
    expect((await server.call("sandbox_create")).error?.code).toBe("BACKEND_UNAVAILABLE");

    await startPrivateEngine(paths);
    const told = await eventually(
      "its end is told",
      async () => (await types()).includes("lifecycle.destroyed") && (await types()),
      40_000,
    );
    expect(told.filter((type) => type === "exec.started")).toHaveLength(1);
    expect(told.filter((type) => type === "exec.completed")).toHaveLength(1);
    expect(told.filter((type) => type === "lifecycle.destroyed")).toHaveLength(1);

    await ensureTestImages(await startPrivateEngine(paths));
    const next = String((await server.ok("sandbox_create"))["sandbox_id"]);
    expect(await server.ok("exec_run", { sandbox_id: next, command: "echo back" })).toMatchObject({ stdout: "back\n" });
    await server.ok("sandbox_destroy", { sandbox_id: next });
  }, 120_000);

  it("under a command of a server that talks to guests past it: the command goes on, and the end leaves nothing", async () => {
    await using server = await startServer({ env: { DOCKER_HOST: `unix://${paths.socket}` } });
    const id = String((await server.ok("sandbox_create"))["sandbox_id"]);
    const running = server.ok("exec_run", {
      sandbox_id: id,
      command: "echo begun; read go; echo $go",
      keep_stdin: true,
    });
    const exec = await eventually("the exec runs", async () => {
      const { execs } = await server.ok("exec_list", { sandbox_id: id });
      return (execs as { exec_id: string }[])[0]?.exec_id;
    });
    process.kill(Number(readFileSync(paths.pid, "utf8")), "SIGKILL");
    await eventually("the engine is gone", async () => (await server.call("sandbox_create")).isError);
    await server.ok("exec_input", { sandbox_id: id, exec_id: exec, data: "on\n" });
    expect(await running).toMatchObject({ status: "exited", stdout: "begun\non\n" });

    await startPrivateEngine(paths);
    await eventually(
      "its end is told",
      async () => (await server.ok("sandbox_get", { sandbox_id: id }))["state"] === "ended",
      40_000,
    );
    await eventually("its guest is gone", () => findProcesses(({ args }) => args.includes(id)).length === 0);
  }, 120_000);
});
