import { beforeEach, expect, test } from "vitest";
import type { ExecSnapshot, Guest } from "../../src/sandbox/guest/types.ts";
import { newExecId } from "../../src/sandbox/ids.ts";
import type { ContractHouse } from "./house.ts";

const wait = { wait_ms: 20_000 } as const;

const text = ({ segments }: ExecSnapshot, stream: "stdout" | "stderr" = "stdout"): string =>
  Buffer.concat(segments.filter((segment) => segment.stream === stream).map(({ bytes }) => bytes)).toString();

/** What a guest does with execs, seen through a session. */
export function execContract(house: () => ContractHouse): void {
  let guest: Guest;
  let id: string;
  beforeEach(async () => {
    ({ guest } = await house().sandbox());
    id = newExecId("tests", 0);
  });

  test.each([
    ["true", 0],
    ["false", 1],
    ["exit 7", 7],
    ["no-such-program-here", 127],
  ])("%s exits with %i", async (command, exitCode) => {
    const { exec } = await guest.startExec(id, { command }, wait);
    expect(exec).toMatchObject({ exec_id: id, status: "exited", exit_code: exitCode, ended_by: "self", signal: null });
  });

  test("an argv runs without a shell", async () => {
    const snapshot = await guest.startExec(id, { argv: ["echo", "$HOME", "a  b"] }, wait);
    expect(text(snapshot)).toBe("$HOME a  b\n");
    expect(snapshot.exec).toMatchObject({ status: "exited", stdout_bytes: 11, stderr_bytes: 0 });
  });

  test("stdout and stderr are apart, or merged on request", async () => {
    const apart = await guest.startExec(id, { command: "echo out; echo err >&2" }, wait);
    expect([text(apart), text(apart, "stderr")]).toEqual(["out\n", "err\n"]);
    const command = "echo out; echo err >&2";
    const merged = await guest.startExec(newExecId("tests", 0), { command, merge_stderr: true }, wait);
    expect([text(merged), text(merged, "stderr")]).toEqual(["out\nerr\n", ""]);
  });

  test("env comes from the sandbox and from the exec", async () => {
    expect(await guest.patchEnv({ set: { ONE: "1", GONE: "x" }, unset: [] })).toEqual(
      expect.arrayContaining(["ONE", "GONE"]),
    );
    expect(await guest.patchEnv({ set: {}, unset: ["GONE"] })).not.toContain("GONE");
    const snapshot = await guest.startExec(id, { command: 'echo "$ONE,$TWO,$GONE"', env: { TWO: "2" } }, wait);
    expect(text(snapshot)).toBe("1,2,\n");
  });

  test("stdin ends after what was given", async () => {
    expect(text(await guest.startExec(id, { command: "cat", stdin: "grüße\n" }, wait))).toBe("grüße\n");
    expect((await guest.startExec(newExecId("tests", 0), { command: "cat" }, wait)).exec.exit_code).toBe(0);
  });

  test("stdin that is kept takes input until its end", async () => {
    await guest.startExec(id, { command: "cat", stdin: "a", keep_stdin: true }, {});
    expect(await guest.writeStdin(id, Buffer.from("b"), false)).toBe(1);
    expect(await guest.writeStdin(id, Buffer.from("c"), true)).toBe(1);
    expect(text(await guest.viewExec(id, wait))).toBe("abc");
    await expect(guest.writeStdin(id, Buffer.from("d"), false)).rejects.toMatchObject({ code: "EXEC_ENDED" });
  });

  test("the same id starts once", async () => {
    const start = { command: "echo once; echo once >> count" };
    const [first, second] = await Promise.all([guest.startExec(id, start, wait), guest.startExec(id, start, wait)]);
    expect(first.exec.pid).toBe(second.exec.pid);
    expect(text(await guest.startExec(id, start, wait))).toBe("once\n");
    expect((await guest.readFile({ path: "count", max_bytes: 100 })).bytes.toString()).toBe("once\n");
  });

  test("a program that is not there does not start", async () => {
    const started = guest.startExec(id, { argv: ["no-such-program-here"] }, wait);
    await expect(started).rejects.toMatchObject({
      code: "EXEC_NOT_STARTED",
      message: expect.stringContaining("ENOENT"),
    });
    await expect(guest.viewExec(id, {})).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
    const { facts } = await guest.facts(0, 0);
    expect(facts.filter(({ kind }) => kind !== "boot")).toEqual([]);
  });

  test.each(["missing", "file"])("a command does not start in a %s, and where it would is said", async (cwd) => {
    await guest.writeFiles([{ path: "file", bytes: Buffer.from("") }]);
    const next = expect.stringContaining("`cwd`");
    await expect(guest.startExec(id, { command: "true", cwd }, wait)).rejects.toMatchObject({
      ...{ code: "EXEC_NOT_STARTED", message: expect.stringContaining("cwd "), next },
    });
  });

  test("a view is answered when there is output beyond its offset", async () => {
    await guest.startExec(id, { command: "cat", keep_stdin: true }, {});
    const first = guest.viewExec(id, { ...wait, until: "output" });
    await guest.writeStdin(id, Buffer.from("one\n"), false);
    expect(await first).toMatchObject({ exec: { status: "running", stdout_bytes: 4 }, segments: [{ from: 0 }] });
    const second = guest.viewExec(id, { ...wait, until: "output", stdout_offset: 4 });
    await guest.writeStdin(id, Buffer.from("two\n"), false);
    const snapshot = await second;
    expect(snapshot.segments).toMatchObject([{ stream: "stdout", from: 4 }]);
    expect(text(snapshot)).toBe("two\n");
    expect((await guest.viewExec(id, { wait_ms: 1 })).exec.status).toBe("running");
  });

  test("a line that matches ends the wait, whole or not", async () => {
    await guest.startExec(id, { command: "cat", keep_stdin: true }, {});
    const waiting = guest.viewExec(id, { ...wait, until_match: "^(Serving|>>>)" });
    await guest.writeStdin(id, Buffer.from("not Serving\nServing on 80\n"), false);
    expect(await waiting).toMatchObject({
      exec: { status: "running" },
      matched: { stream: "stdout", offset: 12, line: "Serving on 80" },
    });
    const prompt = guest.viewExec(id, { ...wait, until_match: "^(Serving|>>>)", stdout_offset: 26 });
    await guest.writeStdin(id, Buffer.from(">>> "), false);
    expect((await prompt).matched).toEqual({ stream: "stdout", offset: 26, line: ">>> " });
    const never = guest.viewExec(id, { ...wait, until_match: "never" });
    await guest.writeStdin(id, Buffer.alloc(0), true);
    const { exec, matched } = await never;
    expect([exec.status, matched]).toEqual(["exited", undefined]);
    const nonsense = { until_match: "(" };
    await expect(guest.viewExec(id, nonsense)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const unborn = newExecId("tests", 0);
    await expect(guest.startExec(unborn, { command: "true" }, nonsense)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(guest.viewExec(unborn, {})).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
  });

  test("the last lines, or those that match with a neighbour on either side", async () => {
    const stdin = Array.from({ length: 9 }, (_, n) => `line ${n}${n % 5 === 3 ? " bad" : ""}\n`).join("");
    await guest.startExec(id, { command: "cat; echo bad too >&2", stdin }, wait);
    const tail = await guest.viewExec(id, { tail_lines: 2 });
    expect([text(tail), text(tail, "stderr")]).toEqual(["line 7\nline 8 bad\n", "bad too\n"]);
    expect(tail.segments[0]?.from).toBe(stdin.length - 18);
    const found = await guest.viewExec(id, { match: "bad" });
    expect(found.found).toEqual({ total: 3, partial: false, more: false });
    expect(found.segments.map((segment) => [segment.stream, segment.from, segment.bytes.toString()])).toEqual([
      ["stdout", 14, "line 2\nline 3 bad\nline 4\n"],
      ["stdout", stdin.length - 18, "line 7\nline 8 bad\n"],
      ["stderr", 0, "bad too\n"],
    ]);
    expect(await guest.viewExec(id, { match: "worse" })).toMatchObject({ found: { total: 0 }, segments: [] });
    const first = await guest.viewExec(id, { match: "bad", max_bytes: 40 });
    expect(first.segments.length).toBeLessThan(found.segments.length);
    expect(first.found).toEqual({ total: 3, partial: false, more: true });
  });

  test("a signal that asks for no end is only sent", async () => {
    await guest.startExec(id, { command: "cat", keep_stdin: true }, {});
    expect(await guest.killExec(id, { signal: "CONT", grace_ms: 0 })).toMatchObject({ status: "running" });
    await guest.writeStdin(id, Buffer.from("alive"), true);
    expect(text(await guest.viewExec(id, wait))).toBe("alive");
  });

  test("long output is cut to its head and tail, and the rest stays readable", async () => {
    const lines = Array.from({ length: 20_000 }, (_, line) => `line ${line}\n`).join("");
    const snapshot = await guest.startExec(id, { command: "cat", stdin: lines }, { ...wait, max_bytes: 4096 });
    expect(snapshot.exec).toMatchObject({ exit_code: 0, stdout_bytes: lines.length, omitted_bytes: 0 });
    const [head, tail] = snapshot.segments;
    expect(snapshot.segments).toHaveLength(2);
    expect(text(snapshot).length).toBeLessThanOrEqual(4096);
    expect(head?.from).toBe(0);
    expect(lines.startsWith(String(head?.bytes))).toBe(true);
    expect(lines.endsWith(String(tail?.bytes))).toBe(true);
    expect((tail?.from ?? 0) + (tail?.bytes.length ?? 0)).toBe(lines.length);

    const rest = await guest.viewExec(id, { stdout_offset: head?.bytes.length ?? 0, max_bytes: lines.length });
    expect(String(head?.bytes) + text(rest)).toBe(lines);
  });

  test("a stream brings all output and the end", async () => {
    const lines = Array.from({ length: 50_000 }, (_, line) => `line ${line}\n`).join("");
    await guest.startExec(id, { command: "cat; echo bad >&2; exit 3", keep_stdin: true }, {});
    const input = guest.writeStdin(id, Buffer.from(lines), true);
    const bytes = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let end: unknown;
    for await (const part of guest.streamExec(id, {})) {
      if ("end" in part) end = part.end;
      else bytes[part.stream].push(part.bytes);
    }
    expect(await input).toBe(lines.length);
    expect(Buffer.concat(bytes.stdout).toString()).toBe(lines);
    expect(Buffer.concat(bytes.stderr).toString()).toBe("bad\n");
    expect(end).toMatchObject({ exec_id: id, status: "exited", exit_code: 3 });
  });

  test("a stream can be left, and the exec goes on", async () => {
    await guest.startExec(id, { command: "echo one; sleep 600" }, {});
    for await (const part of guest.streamExec(id, {})) {
      expect(part).toMatchObject({ stream: "stdout", offset: 0 });
      break;
    }
    expect((await guest.viewExec(id, {})).exec.status).toBe("running");
    const unknown = guest.streamExec("ex_unknown", {})[Symbol.asyncIterator]();
    await expect(unknown.next()).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
  });

  test("a time limit ends the exec", async () => {
    const { exec } = await guest.startExec(id, { command: "echo a; sleep 600", timeout_ms: 300 }, wait);
    expect(exec).toMatchObject({ status: "timed_out", ended_by: "timeout", exit_code: null, stdout_bytes: 2 });
    expect(exec.duration_ms).toBeGreaterThanOrEqual(300);
    expect(exec.duration_ms).toBeLessThan(20_000);
    const { facts } = await guest.facts(1, 0);
    expect(facts).toMatchObject([
      { kind: "exec.started" },
      { kind: "limit", limit: "time", max: 300, exec_id: id },
      { kind: "exec.ended", status: "timed_out" },
    ]);
  });

  test("a kill ends the exec, and is told in its end", async () => {
    await guest.startExec(id, { argv: ["sleep", "600"] }, {});
    const exec = await guest.killExec(id, { signal: "TERM", grace_ms: 5000 });
    expect(exec).toMatchObject({ status: "killed", ended_by: "kill", signal: "TERM", exit_code: null });
    expect(await guest.killExec(id, { signal: "TERM", grace_ms: 100 })).toMatchObject({ status: "killed" });
  });

  test("a kill reaches what the main process left running", async () => {
    const started = await guest.startExec(id, { command: "sleep 600 & echo $?" }, wait);
    expect(started.exec).toMatchObject({ status: "exited", exit_code: 0, left_running: 1 });
    expect(await guest.killExec(id, { signal: "KILL" })).toMatchObject({ status: "exited", left_running: 0 });
  });

  test("an aborted wait does not end the exec", async () => {
    await guest.startExec(id, { command: "cat", keep_stdin: true }, {});
    const controller = new AbortController();
    const waiting = guest.viewExec(id, wait, controller.signal);
    // The guest answers this one after it got the view.
    await guest.health();
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED", retryable: false });
    expect((await guest.viewExec(id, {})).exec.status).toBe("running");
    await guest.writeStdin(id, Buffer.from("still here"), true);
    expect(text(await guest.viewExec(id, wait))).toBe("still here");
  });

  test("lists execs, the newest first", async () => {
    const second = newExecId("tests", 0);
    await guest.startExec(id, { argv: ["true"] }, wait);
    await guest.startExec(second, { argv: ["sleep", "600"] }, {});
    const execs = await guest.listExecs();
    expect(execs.map(({ exec_id, status }) => [exec_id, status])).toEqual([
      [second, "running"],
      [id, "exited"],
    ]);
    expect((await guest.health()).execs).toEqual({ running: 1, total: 2 });
  });

  test("facts tell everything once, by cursor", async () => {
    const boot = await guest.facts(0, 0);
    expect(boot.facts).toMatchObject([{ seq: 1, kind: "boot" }]);
    expect(boot).toMatchObject({ oldest: 1, next: 2 });
    const meta = { client: "test", n: 1 };
    const { facts: inView } = await guest.startExec(id, { command: "exit 3", meta }, { ...wait, facts_after: 1 });
    const { facts } = await guest.facts(1, 0);
    expect(inView?.facts).toEqual(facts);
    expect(facts).toMatchObject([
      { seq: 2, kind: "exec.started", exec_id: id, command: "exit 3", tty: false, meta },
      { seq: 3, kind: "exec.ended", exec_id: id, status: "exited", exit_code: 3, ended_by: "self", meta },
    ]);
    expect((await guest.facts(3, 1)).facts).toEqual([]);
  });

  test("facts are waited for", async () => {
    const coming = guest.facts(1, 20_000);
    await guest.health();
    await guest.startExec(id, { argv: ["true"] }, wait);
    expect((await coming).facts[0]).toMatchObject({ seq: 2, kind: "exec.started" });
  });

  test("paused, it runs nothing; resumed, it goes on", async () => {
    await guest.startExec(id, { command: "cat", keep_stdin: true }, {});
    await guest.pause();
    expect((await guest.health()).state).toBe("paused");
    await expect(guest.startExec(newExecId("tests", 0), { argv: ["true"] }, {})).rejects.toMatchObject({
      code: "SANDBOX_NOT_RUNNING",
      next: expect.stringContaining("sandbox_update"),
    });
    await expect(guest.writeFiles([{ path: "a", bytes: Buffer.from("a") }])).rejects.toMatchObject({
      code: "SANDBOX_NOT_RUNNING",
    });
    await guest.resume();
    expect((await guest.health()).state).toBe("running");
    await guest.writeStdin(id, Buffer.from("awake"), true);
    expect(text(await guest.viewExec(id, wait))).toBe("awake");
    const kinds = (await guest.facts(2, 0)).facts.map(({ kind }) => kind);
    expect(kinds.slice(0, 2)).toEqual(["paused", "resumed"]);
  });

  test("stats count what runs", async () => {
    await guest.startExec(id, { argv: ["sleep", "600"] }, {});
    const stats = await guest.stats();
    expect(stats.execs).toEqual({ running: 1, total: 1 });
    expect(stats.uptime_ms).toBeGreaterThan(0);
    expect(Object.keys(await guest.programs())).not.toContain("no-such-program-here");
  });
}
