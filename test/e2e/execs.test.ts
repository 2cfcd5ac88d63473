import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startServer, type TestServer } from "../support/server.ts";

const base = "chorus-sandbox/base";

describe("commands, as an agent works with them", () => {
  let dataDir: string;
  let server: TestServer;
  let id: string;
  beforeAll(async () => {
    dataDir = path.join(mkdtempSync(path.join(tmpdir(), "chorus-execs-")), "data");
    server = await startServer({ dataDir, env: { CHORUS_SANDBOX_IMAGE: base } });
    id = String((await server.ok("sandbox_create", { env: { WHO: "sandbox", KEPT: "yes" } }))["sandbox_id"]);
  });
  afterAll(async () => {
    await server?.call("sandbox_destroy", { sandbox_id: id });
    await server?.[Symbol.asyncDispose]();
    rmSync(path.dirname(dataDir), { recursive: true, force: true });
  });
  const run = (args: Record<string, unknown>) => server.ok("exec_run", { sandbox_id: id, ...args });
  const output = (exec: Record<string, unknown>, args: Record<string, unknown> = {}) =>
    server.ok("exec_output", { sandbox_id: id, exec_id: exec["exec_id"], ...args });
  const input = (exec: Record<string, unknown>, args: Record<string, unknown>) =>
    server.ok("exec_input", { sandbox_id: id, exec_id: exec["exec_id"], ...args });

  it("understands from one result why a build with 50 MB of log failed", async () => {
    const answer = await server.call("exec_run", {
      sandbox_id: id,
      command:
        "echo 'gcc -c start.c'; yes 'cc -O2 -c ../src/grün/file.c -o file.o' | head -c 52428800; echo 'make: *** [all] Error 2' >&2; exit 2",
      merge_stderr: true,
    });
    const { stdout, omitted, exit_code } = answer.data;
    expect(exit_code).toBe(2);
    expect(String(stdout).startsWith("gcc -c start.c\ncc -O2")).toBe(true);
    expect(String(stdout)).toMatch(/make: \*\*\* \[all\] Error 2\n$/);
    expect(String(stdout)).not.toContain("\ufffd");
    for (const line of String(stdout).split("\n").slice(1, -3))
      expect(line).toMatch(/^(cc -O2 .* file\.o|\[… \d+ bytes.*)$/);
    expect(Buffer.byteLength(JSON.stringify(answer.data))).toBeLessThan(20_000);
    // The text names the call that reads the rest; it does.
    const [, call] = /exec_output (\{.*\}) reads on from there/.exec(answer.text) ?? [];
    const rest = await server.ok("exec_output", JSON.parse(String(call)));
    const [{ from }] = omitted as [{ from: number }];
    expect(rest).toMatchObject({ status: "exited", stdout_bytes: answer.data["stdout_bytes"] });
    expect(String(rest["stdout"])).toMatch(/^cc -O2/);
    expect(from).toBeGreaterThan(4_000);
    const found = await output(answer.data, { match: "Error [0-9]" });
    expect(String(found["stdout"]).trimEnd().split("\n").at(-1)).toBe("make: *** [all] Error 2");
    expect(String(found["notes"])).toContain("1 line matches");
  });

  it("starts a web server in one call, asks it from a second command and ends it", async () => {
    const started = await run({
      command: "python3 -u -m http.server 8000",
      until_match: "Serving|Listening",
      wait_s: 20,
    });
    expect(started).toMatchObject({ status: "running" });
    expect(started["duration_ms"]).toBeLessThan(15_000);
    expect(String(started["notes"])).toContain("Serving HTTP on");
    const asked = await run({ command: "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8000/" });
    expect(asked["stdout"]).toBe("200");
    const killed = await server.ok("exec_kill", { sandbox_id: id, exec_id: started["exec_id"] });
    expect(killed).toMatchObject({ status: "killed", ended_by: "kill", left_running: 0 });
    expect(await run({ command: "curl -s http://127.0.0.1:8000/" })).toMatchObject({ exit_code: 7 });
  });

  it("drives a Python prompt on a terminal", async () => {
    const repl = await run({ argv: ["python3"], tty_rows: 30, tty_cols: 100, until_match: "^>>> $", wait_s: 20 });
    expect(repl).toMatchObject({ status: "running", stderr: "" });
    expect(await input(repl, { data: "6 * 7\n" })).toEqual({ accepted_bytes: 6 });
    const answer = await output(repl, { stdout_offset: repl["stdout_next"], until_match: "^42", wait_s: 20 });
    expect(answer["stdout"]).toContain("42\r\n");
    await input(repl, { eof: true });
    expect(await output(repl, { wait_s: 20 })).toMatchObject({ status: "exited", exit_code: 0 });
    const late = await server.call("exec_input", { sandbox_id: id, exec_id: repl["exec_id"], data: "x" });
    expect(late.error).toMatchObject({ code: "EXEC_ENDED", message: expect.stringContaining("has ended") });
  });

  it("resizes a terminal while it is used", async () => {
    const shell = await run({ argv: ["bash", "--norc"], tty_cols: 120, until_match: "\\$ $", wait_s: 20 });
    await input(shell, { data: "stty size\n" });
    expect(await output(shell, { until_match: "24 120", wait_s: 20 })).toMatchObject({ status: "running" });
    await input(shell, { tty_rows: 50, tty_cols: 200, data: "stty size; exit 4\n" });
    const done = await output(shell, { wait_s: 20 });
    expect(done["stdout"]).toContain("50 200\r\n");
    expect(done).toMatchObject({ status: "exited", exit_code: 4 });
  });

  it("follows a long build in few calls", async () => {
    const build = await run({
      command:
        'for i in $(seq 1 12); do echo "step $i"; echo "warn $i" >&2; [ $i = 6 ] && read go; done; echo "FAILED t_x"; exit 1',
      keep_stdin: true,
      wait_s: 0,
    });
    const half = await output(build, { until_match: "^step 6$", tail_lines: 1, wait_s: 20 });
    expect(half).toMatchObject({ status: "running", stdout: expect.stringMatching(/step 6\n$/) });
    await input(build, { data: "go\n" });
    const since = { stdout_offset: half["stdout_next"], stderr_offset: half["stderr_next"] };
    const first = await output(build, { until: "output", ...since, wait_s: 20 });
    expect(`${first["stdout"]}${first["stderr"]}`).toMatch(/^(step 7|warn [67])\n/);
    const done = await output(build, { tail_lines: 2, wait_s: 20 });
    expect(done).toMatchObject({ status: "exited", exit_code: 1 });
    expect(String(done["stdout"]).split("\n").slice(-3)).toEqual(["step 12", "FAILED t_x", ""]);
    expect(String(done["stderr"]).split("\n").slice(-3)).toEqual(["warn 11", "warn 12", ""]);
    const found = await output(build, { match: "FAILED|warn 7" });
    expect(String(found["stdout"])).toContain("step 12\nFAILED t_x\n");
    expect(String(found["stderr"])).toContain("warn 6\nwarn 7\nwarn 8\n");
    expect(String(found["notes"])).toContain("2 lines match");
  });

  it("takes text, bytes and the end of input, in pieces", async () => {
    const cat = await run({ command: "od -An -tx1 -v | tr -d ' \\n'", keep_stdin: true, wait_s: 0 });
    expect(await input(cat, { data: "ü" })).toEqual({ accepted_bytes: 2 });
    expect(await input(cat, { data_base64: Buffer.from([0, 255, 10]).toString("base64") })).toEqual({
      accepted_bytes: 3,
    });
    expect(await input(cat, { eof: true })).toEqual({ accepted_bytes: 0 });
    expect(await output(cat, { wait_s: 20 })).toMatchObject({ stdout: "c3bc00ff0a", exit_code: 0 });
    const refusals: [Record<string, unknown>, string][] = [
      [{}, "Nothing to do"],
      [{ data: "a", data_base64: "YQ==" }, "not both"],
      [{ data_base64: "a*b" }, "not base64"],
      [{ tty_rows: 4 }, "both tty_rows and tty_cols"],
    ];
    for (const [args, why] of refusals) {
      const refused = await server.call("exec_input", { sandbox_id: id, exec_id: cat["exec_id"], ...args });
      expect(refused.error).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining(why) });
    }
    const closed = await run({ command: "sleep 30", wait_s: 0 });
    const refused = await server.call("exec_input", { sandbox_id: id, exec_id: closed["exec_id"], data: "a" });
    expect(refused.error).toMatchObject({ code: "EXEC_ENDED", next: expect.stringContaining("keep_stdin") });
    await server.ok("exec_kill", { sandbox_id: id, exec_id: closed["exec_id"], signal: "KILL" });
  });

  it("gives a command as much stdin as a message holds", async () => {
    const stdin = "zeile mit ü\n".repeat(1_500_000);
    const sum = await run({ command: "sha256sum; echo", stdin });
    const { createHash } = await import("node:crypto");
    expect(sum["stdout"]).toContain(createHash("sha256").update(stdin).digest("hex"));
    expect(await run({ command: "head -c 3", stdin })).toMatchObject({ stdout: "zei", exit_code: 0 });
  });

  it("has env and cwd of a command over the sandbox's", async () => {
    const own = await run({ command: "echo $WHO $KEPT; pwd", env: { WHO: "exec" }, cwd: "/tmp" });
    expect(own["stdout"]).toBe("exec yes\n/tmp\n");
    const nowhere = await server.call("exec_run", { sandbox_id: id, command: "true", cwd: "nowhere" });
    expect(nowhere.error?.code).toBe("EXEC_NOT_STARTED");
    const pattern = await server.call("exec_run", { sandbox_id: id, command: "touch ran", until_match: "(" });
    expect(pattern.error?.code).toBe("INVALID_ARGUMENT");
    expect((await run({ command: "ls ran" }))["exit_code"]).not.toBe(0);
  });

  it("shows a client that asks what happens while it waits", async () => {
    const seen: { at: number; message: string }[] = [];
    const begun = performance.now();
    await server.call(
      "exec_run",
      {
        sandbox_id: id,
        command: "for i in $(seq 1 60); do printf '\\033[32mpart %s\\033[0m\\n' $i; sleep 0.05; done; sleep 7",
      },
      { onprogress: ({ message = "" }) => seen.push({ at: performance.now() - begun, message }) },
    );
    const text = seen.map(({ message }) => message).join("\n");
    expect(text).toContain("part 1\n");
    expect(text).toContain("part 60");
    expect(text).not.toContain("\u001b");
    for (const { message } of seen) expect(Buffer.byteLength(message)).toBeLessThanOrEqual(1024);
    for (const [i, { at }] of seen.entries()) expect(at - (seen[i - 1]?.at ?? 0)).toBeLessThan(10_000);
    // At most four times a second; several may arrive together.
    const all = seen.findIndex(({ message }) => message.includes("part 60"));
    expect(all + 1).toBeLessThanOrEqual(((seen[all]?.at ?? 0) / 1_000) * 4 + 2);
    // Silence is broken, too.
    expect(seen.at(-1)?.message).toMatch(/ \(\d+ s\)$/);
  });

  it("ends what it started when the call is cancelled", async () => {
    const stop = new AbortController();
    const call = server.call(
      "exec_run",
      { sandbox_id: id, command: "echo cancel-me; (setsid sleep 777 &); sleep 777" },
      {
        signal: stop.signal,
        onprogress: ({ message = "" }) => {
          if (message.includes("cancel-me")) stop.abort();
        },
      },
    );
    await expect(call).rejects.toThrow();
    await expect
      .poll(async () => (await run({ command: "pgrep -fc '^sleep 777' || true" }))["stdout"], { timeout: 10_000 })
      .toBe("0\n");
    const { execs } = await server.ok("exec_list", { sandbox_id: id });
    expect(
      (execs as { command: string; status: string }[]).find(({ command }) => command.includes("cancel-me")),
    ).toMatchObject({
      status: "killed",
    });
  });

  it("SIGKILL of the server between two reads: nothing is missing or doubled, for any reader on any server", async () => {
    const first = await startServer({ dataDir });
    const exec = await first.ok("exec_run", {
      sandbox_id: id,
      command: "for i in $(seq 1 40); do echo out $i; echo err $i >&2; sleep 0.05; done",
      until_match: "^out 5$",
    });
    await first.kill();
    await using second = await startServer({ dataDir });
    const read = async (reader: TestServer) => {
      let [out, err] = [String(exec["stdout"]), String(exec["stderr"])];
      let last = exec;
      while (last["status"] === "running" || last["stdout_next"] !== last["stdout_bytes"]) {
        last = await reader.ok("exec_output", {
          sandbox_id: id,
          exec_id: exec["exec_id"],
          stdout_offset: last["stdout_next"],
          stderr_offset: last["stderr_next"],
          until: "output",
          wait_s: 20,
        });
        out += last["stdout"];
        err += last["stderr"];
      }
      return [out, err];
    };
    const lines = (word: string) => Array.from({ length: 40 }, (_, i) => `${word} ${i + 1}\n`).join("");
    for (const whole of await Promise.all([read(second), read(server), read(server)]))
      expect(whole).toEqual([lines("out"), lines("err")]);
  });

  it("offers output as a resource", async () => {
    const exec = await run({ command: "echo to out; echo to err >&2" });
    const read = async (stream: string) => {
      const uri = `sandbox://${id}/execs/${exec["exec_id"]}/${stream}`;
      return (await server.client.readResource({ uri })).contents[0];
    };
    expect(await read("stdout")).toMatchObject({ mimeType: "text/plain", text: "to out\n" });
    expect(await read("stderr")).toMatchObject({ text: "to err\n" });
    await expect(read("stdin")).rejects.toThrow(/not found/i);
  });

  it("lists what ran and runs, and says what is known of what is forgotten and of what has ended with its sandbox", async () => {
    const other = String((await server.ok("sandbox_create", { image: base }))["sandbox_id"]);
    const again = (tool: string, exec: unknown, args: Record<string, unknown> = {}): Promise<Answer> =>
      server.call(tool, { sandbox_id: other, exec_id: exec, ...args });
    const [oldest] = await Promise.all([server.ok("exec_run", { sandbox_id: other, command: "echo first; exit 9" })]);
    const running = await server.ok("exec_run", { sandbox_id: other, command: "sleep 300", wait_s: 0 });
    for (let n = 0; n < 6; n++)
      await Promise.all(Array.from({ length: 35 }, () => server.ok("exec_run", { sandbox_id: other, argv: ["true"] })));
    const list = await server.ok("exec_list", { sandbox_id: other });
    const rows = list["execs"] as { exec_id: string; status: string }[];
    expect(rows.filter(({ status }) => status === "running").map(({ exec_id }) => exec_id)).toEqual([
      running["exec_id"],
    ]);
    expect(Number(list["omitted"]) + rows.length).toBe(212);
    const forgotten = await again("exec_output", oldest?.["exec_id"]);
    expect(forgotten.error).toMatchObject({
      code: "EXEC_NOT_FOUND",
      message: expect.stringMatching(/exit code 9.*no longer kept/),
    });
    expect((await again("exec_output", "ex_nothing")).error).toMatchObject({
      code: "EXEC_NOT_FOUND",
      message: expect.stringContaining("has no exec"),
    });
    await server.ok("sandbox_destroy", { sandbox_id: other });
    const lost = await again("exec_output", running["exec_id"]);
    expect(lost.data).toMatchObject({ stdout: "", exit_code: null });
    expect(["lost", "killed"]).toContain(lost.data["status"]);
    expect(lost.text).toContain("The sandbox has ended");
    expect((await again("exec_output", oldest?.["exec_id"])).data).toMatchObject({ status: "exited", exit_code: 9 });
    expect((await again("exec_kill", running["exec_id"])).error?.code).toBe("SANDBOX_ENDED");
  });
});
