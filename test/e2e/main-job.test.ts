import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { containersOf } from "../support/engine.ts";
import { startServer, type TestServer } from "../support/server.ts";

describe("an agent's session", () => {
  let server: TestServer;
  let sandboxId: string;

  beforeAll(async () => {
    server = await startServer();
    const sandbox = await server.ok("sandbox_create", {
      name: "work",
      labels: { team: "a" },
      env: { GREETING: "hello", API_TOKEN: "s3cret-value" },
      request_id: "req-1",
    });
    sandboxId = String(sandbox["sandbox_id"]);
    expect(sandbox).toMatchObject({
      state: "running",
      name: "work",
      profile: "strict",
      network: { mode: "none" },
      workdir: "/workspace",
      shell: "/bin/sh",
      env_keys: ["API_TOKEN", "GREETING"],
      labels: { team: "a" },
      resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
      origin: { client: "chorus-tests/1.0.0" },
    });
    expect(sandbox["image"]).toContain("chorus-sandbox/test:busybox");
    expect(sandbox["expires_in_s"]).toBeGreaterThan(3500);
    expect(sandbox["idle_in_s"]).toBeGreaterThan(850);
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  it("runs a shell line: output, streams and exit code apart", async () => {
    const answer = await server.call("exec_run", { sandbox_id: "work", command: "echo out; echo err >&2; exit 3" });
    expect(answer.isError).toBe(false);
    expect(answer.data).toMatchObject({
      status: "exited",
      exit_code: 3,
      ended_by: "self",
      stdout: "out\n",
      stderr: "err\n",
      cwd: "/workspace",
    });
    expect(answer.text).toMatch(/^exit 3 · .* · ex_/);
    expect(answer.text).toContain("out\n");
  });

  it("runs argv without a shell, with stdin and env of its own over the sandbox's", async () => {
    const cat = await server.ok("exec_run", { sandbox_id: sandboxId, argv: ["cat"], stdin: "line\n" });
    expect(cat["stdout"]).toBe("line\n");
    const env = await server.ok("exec_run", {
      sandbox_id: sandboxId,
      command: "echo $GREETING $EXTRA $HOME",
      env: { EXTRA: "more" },
    });
    expect(env["stdout"]).toBe("hello more /workspace\n");
  });

  it("carries neither cwd nor exports over", async () => {
    await server.ok("exec_run", { sandbox_id: sandboxId, command: "cd /tmp; export X=1; touch here" });
    const next = await server.ok("exec_run", { sandbox_id: sandboxId, command: "pwd; echo [$X]" });
    expect(next["stdout"]).toBe("/workspace\n[]\n");
  });

  it("runs commands as an unprivileged uid of the sandbox's own, without capabilities or network", async () => {
    const { stdout } = await server.ok("exec_run", {
      sandbox_id: sandboxId,
      command:
        "id -u; id -un; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; cat /proc/net/dev | grep -c :; touch /x 2>&1",
    });
    const [uid, name, caps, noNewPrivileges, interfaces, root] = String(stdout).split("\n");
    expect(Number(uid)).toBeGreaterThanOrEqual(20_000);
    expect(Number(uid)).toBeLessThan(60_000);
    expect(name).not.toBe("");
    expect(caps).toMatch(/CapEff:\s+0000000000000000/);
    expect(noNewPrivileges).toMatch(/NoNewPrivs:\s+1/);
    expect(interfaces).toBe("1");
    expect(root).toContain("Read-only file system");
  });

  it("writes, reads and lists files", async () => {
    const written = await server.ok("file_write", {
      sandbox_id: sandboxId,
      files: [
        { path: "src/a.txt", content: "one\ntwo\nthree\n" },
        { path: "/workspace/run.sh", content: "#!/bin/sh\necho ran\n", mode: "0755" },
      ],
    });
    const [a] = written["files"] as { path: string; etag: string; created: boolean; size_bytes: number }[];
    expect(a).toMatchObject({ created: true, size_bytes: 14 });
    const read = await server.ok("file_read", { sandbox_id: sandboxId, path: "src/a.txt", line_start: 2, line_end: 2 });
    expect(read).toMatchObject({ content: "two\n", line_start: 2, line_end: 2, total_lines: 3, etag: a?.etag });
    expect((await server.ok("exec_run", { sandbox_id: sandboxId, argv: ["./run.sh"] }))["stdout"]).toBe("ran\n");
    const listed = await server.ok("file_list", { sandbox_id: sandboxId, depth: 2, glob: "**/*.txt" });
    expect(listed["entries"]).toMatchObject([{ path: "src/a.txt", type: "file", size_bytes: 14, mode: "0644" }]);
  });

  it("writes all files or none, and only over the content that was read", async () => {
    const first = await server.ok("file_write", { sandbox_id: sandboxId, files: [{ path: "guarded", content: "1" }] });
    const etag = (first["files"] as { etag: string }[])[0]?.etag;
    await server.ok("file_write", {
      sandbox_id: sandboxId,
      files: [{ path: "guarded", content: "2", if_match: etag }],
    });
    const stale = await server.call("file_write", {
      sandbox_id: sandboxId,
      files: [
        { path: "other", content: "x" },
        { path: "guarded", content: "3", if_match: etag },
      ],
    });
    expect(stale.error?.code).toBe("FILE_CONFLICT");
    expect((await server.ok("file_read", { sandbox_id: sandboxId, path: "guarded" }))["content"]).toBe("2");
    expect((await server.call("file_read", { sandbox_id: sandboxId, path: "other" })).error?.code).toBe(
      "FILE_NOT_FOUND",
    );
  });

  it("goes on past wait_s, is followed and killed as a tree", async () => {
    const started = await server.ok("exec_run", {
      sandbox_id: sandboxId,
      command: "echo begin; (sleep 300 &) ; sleep 300",
      wait_s: 2,
    });
    expect(started).toMatchObject({ status: "running", exit_code: null, stdout: "begin\n" });
    const execId = started["exec_id"];
    const killed = await server.ok("exec_kill", { sandbox_id: sandboxId, exec_id: execId });
    expect(killed).toMatchObject({ status: "killed", ended_by: "kill" });
    const left = await server.ok("exec_run", { sandbox_id: sandboxId, command: "ps | grep -c '[s]leep 300'" });
    expect(left["stdout"]).toBe("0\n");
    const output = await server.ok("exec_output", { sandbox_id: sandboxId, exec_id: execId });
    expect(output).toMatchObject({ stdout: "begin\n", status: "killed" });
  });

  it("kills the whole tree at timeout_s", async () => {
    const result = await server.ok("exec_run", {
      sandbox_id: sandboxId,
      command: "(setsid sleep 301 &) ; sleep 301",
      timeout_s: 0.3,
    });
    expect(result).toMatchObject({ status: "timed_out", ended_by: "timeout", exit_code: null });
    const left = await server.ok("exec_run", { sandbox_id: sandboxId, command: "ps | grep -c '[s]leep 301'" });
    expect(left["stdout"]).toBe("0\n");
  });

  it("tells what it uses", async () => {
    const stats = await server.ok("sandbox_stats", { sandbox_id: sandboxId });
    expect(stats).toMatchObject({
      pids: { limit: 256 },
      cpu: { limit_cpus: 1 },
      network: { rx_bytes: 0, tx_bytes: 0 },
      workspace: { limit_bytes: 512 * 2 ** 20 },
      memory: { oom_kills: 0 },
    });
  });

  it("finds its sandboxes again", async () => {
    const list = await server.ok("sandbox_list", { here: true });
    expect(list["sandboxes"]).toMatchObject([{ sandbox_id: sandboxId, name: "work", state: "running" }]);
    expect((await server.ok("sandbox_list", { labels: { team: "b" } }))["sandboxes"]).toEqual([]);
  });

  it("gives the same sandbox for the same request, and refuses another under it", async () => {
    const again = {
      name: "work",
      labels: { team: "a" },
      env: { API_TOKEN: "s3cret-value", GREETING: "hello" },
      request_id: "req-1",
    };
    expect((await server.ok("sandbox_create", again))["sandbox_id"]).toBe(sandboxId);
    expect((await server.call("sandbox_create", { ...again, memory_mb: 256 })).error?.code).toBe("CONFLICT");
    expect((await server.call("sandbox_create", { name: "work" })).error?.code).toBe("CONFLICT");
  });

  it("changes labels, env and leases", async () => {
    const updated = await server.ok("sandbox_update", {
      sandbox_id: sandboxId,
      labels: { team: null, phase: "2" },
      env: { GREETING: "bye", API_TOKEN: null },
      ttl_s: 1000,
      idle_s: 100,
    });
    expect(updated).toMatchObject({ labels: { phase: "2" }, env_keys: ["GREETING"] });
    expect(updated["expires_in_s"]).toBeGreaterThan(990);
    expect(updated["expires_in_s"]).toBeLessThanOrEqual(1000);
    expect(
      (await server.ok("exec_run", { sandbox_id: sandboxId, command: "echo $GREETING[$API_TOKEN]" }))["stdout"],
    ).toBe("bye[]\n");
  });

  it("changes limits while it runs", async () => {
    await server.ok("sandbox_update", { sandbox_id: sandboxId, cpus: 0.5, memory_mb: 256, pids: 128 });
    const stats = await server.ok("sandbox_stats", { sandbox_id: sandboxId });
    expect(stats).toMatchObject({ pids: { limit: 128 }, cpu: { limit_cpus: 0.5 } });
  });

  it("pauses and resumes", async () => {
    expect(await server.ok("sandbox_update", { sandbox_id: sandboxId, paused: true })).toMatchObject({
      state: "paused",
    });
    const refused = await server.call("exec_run", { sandbox_id: sandboxId, command: "true" });
    expect(refused.error).toMatchObject({ code: "SANDBOX_NOT_RUNNING" });
    expect(refused.text).toContain('"paused":false');
    expect(await server.ok("sandbox_update", { sandbox_id: sandboxId, paused: false })).toMatchObject({
      state: "running",
    });
    expect(await server.ok("exec_run", { sandbox_id: sandboxId, command: "true" })).toMatchObject({ exit_code: 0 });
  });

  it("ends, tells everything in order and leaves nothing", async () => {
    expect(await server.ok("sandbox_destroy", { sandbox_id: "work" })).toEqual({
      sandbox_id: sandboxId,
      destroyed: true,
      already_ended: false,
    });
    expect(await server.ok("sandbox_destroy", { sandbox_id: sandboxId })).toMatchObject({
      destroyed: false,
      already_ended: true,
    });
    expect(await containersOf([sandboxId])).toEqual([]);
    const ended = await server.ok("sandbox_get", { sandbox_id: sandboxId });
    expect(ended).toMatchObject({ state: "ended", ended: { reason: "request", oom_killed: false } });

    const { events } = await server.ok("sandbox_events", { sandbox_id: sandboxId, after: "start", limit: 200 });
    const told = events as { type: string; sequence: number; exec_id?: string }[];
    expect(told.map((event) => event.sequence)).toEqual(told.map((_, i) => i + 1));
    expect(told.slice(0, 2).map((event) => event.type)).toEqual(["lifecycle.created", "lifecycle.ready"]);
    expect(told.slice(-2).map((event) => event.type)).toEqual(["lifecycle.died", "lifecycle.destroyed"]);
    const ids = (type: string) =>
      told
        .filter((event) => event.type === type)
        .map((event) => event.exec_id)
        .sort();
    expect(ids("exec.completed")).toEqual(ids("exec.started"));
    expect(new Set(ids("exec.started")).size).toBe(ids("exec.started").length);
    expect(JSON.stringify(told)).not.toContain("s3cret-value");
  });
});

describe("odd images", () => {
  it.each([["chorus-sandbox/test:hostile", "what the image declares changes nothing"]])("%s: %s", async (image) => {
    await using server = await startServer();
    const sandbox = await server.ok("sandbox_create", { image });
    const id = String(sandbox["sandbox_id"]);
    const { stdout } = await server.ok("exec_run", {
      sandbox_id: id,
      command: "pwd; id -u; echo [$LD_PRELOAD][$GODEBUG]; touch /data/x 2>/dev/null && echo volume-writable; echo ok",
    });
    const lines = String(stdout).split("\n");
    expect(lines[0]).toBe("/workspace");
    expect(Number(lines[1])).toBeGreaterThanOrEqual(20_000);
    expect(lines).toContain("ok");
    await server.ok("sandbox_destroy", { sandbox_id: id });
    expect(await containersOf([id])).toEqual([]);
  });

  it("an image without any shell works by argv, and says so by shell line", async () => {
    await using server = await startServer();
    const sandbox = await server.ok("sandbox_create", { image: "chorus-sandbox/test:scratch" });
    const id = String(sandbox["sandbox_id"]);
    expect(sandbox).not.toHaveProperty("shell");
    const answer = await server.call("exec_run", { sandbox_id: id, command: "echo hi" });
    expect(answer.error).toMatchObject({ code: "EXEC_NOT_STARTED", next: expect.stringContaining("`argv`") });
    await server.ok("file_write", { sandbox_id: id, files: [{ path: "a", content: "works" }] });
    expect((await server.ok("file_read", { sandbox_id: id, path: "a" }))["content"]).toBe("works");
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });
});
