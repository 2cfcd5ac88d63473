import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startServer, type TestServer } from "../support/server.ts";

/** Every refusal says what to do next, in text and in `_meta`, and carries no structuredContent. */
function expectRefusal(answer: Answer, code: string, message: RegExp, next?: RegExp): void {
  expect(answer.isError, answer.text).toBe(true);
  expect(answer.text.startsWith(`${code}: `), answer.text).toBe(true);
  expect(answer.error?.code).toBe(code);
  expect(answer.error?.message).toMatch(message);
  expect(answer.error?.next.length).toBeGreaterThan(10);
  expect(answer.text).toContain(`\nNext: ${answer.error?.next}`);
  expect(answer.data).toEqual({});
  if (next) expect(answer.error?.next).toMatch(next);
}

describe("bad input", () => {
  let server: TestServer;
  let id: string;
  beforeAll(async () => {
    server = await startServer();
    id = String((await server.ok("sandbox_create", { name: "bad" }))["sandbox_id"]);
  });
  afterAll(async () => {
    await server?.call("sandbox_destroy", { sandbox_id: id });
    await server?.[Symbol.asyncDispose]();
  });
  const run = (command: string) => server.ok("exec_run", { sandbox_id: id, command });

  describe("arguments", () => {
    it.each([
      [
        "an unknown sandbox",
        "exec_run",
        { sandbox_id: "sb_0000000000000000", command: "true" },
        "SANDBOX_NOT_FOUND",
        /sb_0000000000000000/,
      ],
      ["an unknown name", "sandbox_get", { sandbox_id: "nobody" }, "SANDBOX_NOT_FOUND", /nobody/],
      ["an unknown key", "exec_run", { sandbox_id: "bad", comand: "true" }, "INVALID_ARGUMENT", /comand/],
      ["neither command nor argv", "exec_run", { sandbox_id: "bad" }, "INVALID_ARGUMENT", /command.*argv/],
      [
        "both command and argv",
        "exec_run",
        { sandbox_id: "bad", command: "a", argv: ["a"] },
        "INVALID_ARGUMENT",
        /command.*argv/,
      ],
      [
        "a wait beyond the bound",
        "exec_run",
        { sandbox_id: "bad", command: "true", wait_s: 51 },
        "INVALID_ARGUMENT",
        /wait_s/,
      ],
      ["a negative limit", "sandbox_create", { memory_mb: -1 }, "INVALID_ARGUMENT", /memory_mb/],
      ["a limit beyond the policy", "sandbox_create", { memory_mb: 4097 }, "POLICY_DENIED", /maxima\.memory_mb/],
      ["a network", "sandbox_create", { network: "open" }, "POLICY_DENIED", /network/],
      ["the dev profile", "sandbox_create", { profile: "dev" }, "POLICY_DENIED", /profile/],
      [
        "an exec that is not there",
        "exec_output",
        { sandbox_id: "bad", exec_id: "ex_0000000000000000" },
        "EXEC_NOT_FOUND",
        /ex_0000000000000000/,
      ],
      ["a cursor that is none", "sandbox_events", { after: "yesterday" }, "INVALID_ARGUMENT", /yesterday/],
      ["an unknown event type", "sandbox_events", { types: ["exec.exploded"] }, "INVALID_ARGUMENT", /exec\.exploded/],
      [
        "an image that is not there",
        "sandbox_create",
        { image: "no-such-image-here:1" },
        "IMAGE_",
        /no-such-image-here/,
      ],
      [
        "an image reference that is none",
        "sandbox_create",
        { image: "UPPER CASE!!" },
        "INVALID_ARGUMENT",
        /UPPER CASE/,
      ],
    ])("%s", async (_, tool, args, code, message) => {
      const answer = await server.call(tool, args);
      if (code.endsWith("_")) {
        expect(answer.error?.code.startsWith(code), answer.text).toBe(true);
        expect(answer.text).toMatch(message);
      } else {
        expectRefusal(answer, code, message);
      }
    });

    it("understands numbers, lists and objects sent as strings", async () => {
      const result = await server.ok("exec_run", {
        sandbox_id: "bad",
        argv: '["echo","a b"]',
        wait_s: "5",
        env: '{"A":"1"}',
      });
      expect(result).toMatchObject({ stdout: "a b\n", exit_code: 0 });
    });

    it("tells policy refusals as events of the host", async () => {
      await server.call("sandbox_create", { memory_mb: 9999 });
      const { events } = await server.ok("sandbox_events", { types: ["policy.denied"] });
      expect(events).toContainEqual(
        expect.objectContaining({ rule: "maxima.memory_mb", requested: 9999, allowed: 4096, sandbox_id: "_host" }),
      );
    });
  });

  describe("programs", () => {
    it("one that does not exist is an error by argv, and a result by shell", async () => {
      expectRefusal(
        await server.call("exec_run", { sandbox_id: id, argv: ["no-such-program"] }),
        "EXEC_NOT_STARTED",
        /no-such-program/,
      );
      const shell = await run("no-such-program");
      expect(shell).toMatchObject({ status: "exited", exit_code: 127 });
      expect(shell["notes"]).toEqual([expect.stringContaining("127")]);
    });

    it("a cwd that does not exist", async () => {
      expectRefusal(
        await server.call("exec_run", { sandbox_id: id, command: "true", cwd: "/nowhere" }),
        "EXEC_NOT_STARTED",
        /nowhere/,
      );
    });
  });

  describe("paths", () => {
    beforeAll(async () => {
      await run(
        "mkdir -p d; mkfifo fifo; truncate -s 3G big; printf 'tail' | dd of=big bs=1 seek=3221225468 conv=notrunc 2>/dev/null; printf '\\377\\376bad' > latin; ln -s /etc/passwd link; ln -s loop loop; printf 'no newline' > n",
      );
    });

    it.each([
      ["a missing file", "missing.txt", "FILE_NOT_FOUND", /missing\.txt/],
      ["a directory", "d", "FILE_INVALID", /director/],
      ["a fifo", "fifo", "FILE_INVALID", /fifo/],
      ["a device", "/dev/zero", "FILE_INVALID", /device/],
      ["a loop of links", "loop", "FILE_INVALID", /./],
    ])("reading %s", async (_, path, code, message) => {
      expectRefusal(await server.call("file_read", { sandbox_id: id, path }), code, message);
    });

    it("reading what the commands may not read", async () => {
      const answer = await server.call("file_read", { sandbox_id: id, path: "/proc/1/environ" });
      expect(["PERMISSION_DENIED", "FILE_INVALID"]).toContain(answer.error?.code);
      expect((await server.call("file_read", { sandbox_id: id, path: "/run/chorus/guest.sock" })).isError).toBe(true);
    });

    it("a 3 GiB file is read in part, at once", async () => {
      const end = await server.ok("file_read", { sandbox_id: id, path: "big", offset: 3 * 2 ** 30 - 4 });
      expect(end).toMatchObject({ content: "tail", size_bytes: 3 * 2 ** 30 });
      const started = performance.now();
      const start = await server.ok("file_read", {
        sandbox_id: id,
        path: "big",
        offset: 0,
        encoding: "base64",
        max_bytes: 100,
      });
      expect(start).toMatchObject({ omitted: true, next_offset: 100 });
      expect(performance.now() - started).toBeLessThan(5_000);
    });

    it("what is not UTF-8 is shown harmlessly and had exactly as base64", async () => {
      const text = await server.ok("file_read", { sandbox_id: id, path: "latin" });
      expect(text["content"]).toBe("\ufffd\ufffdbad");
      expect(text["notes"]).toEqual([expect.stringContaining("UTF-8")]);
      const bytes = await server.ok("file_read", { sandbox_id: id, path: "latin", encoding: "base64" });
      expect(Buffer.from(String(bytes["content"]), "base64")).toEqual(Buffer.from([0xff, 0xfe, 0x62, 0x61, 0x64]));
    });

    it("a missing final newline stays missing", async () => {
      expect((await server.ok("file_read", { sandbox_id: id, path: "n" }))["content"]).toBe("no newline");
    });

    it("writing over a directory, a fifo or outside of what is writable", async () => {
      for (const [path, codes] of [
        ["d", ["FILE_INVALID"]],
        ["fifo", ["FILE_INVALID"]],
        ["/etc/evil", ["PERMISSION_DENIED"]],
        ["n/below-a-file", ["FILE_INVALID", "FILE_NOT_FOUND"]],
      ] as const) {
        const answer = await server.call("file_write", { sandbox_id: id, files: [{ path, content: "x" }] });
        expect(codes as readonly (string | undefined)[], `${path}: ${answer.text}`).toContain(answer.error?.code);
      }
    });

    it("more than fits in the workspace", async () => {
      await using small = await startServer();
      const tiny = String((await small.ok("sandbox_create", { workspace_mb: 1 }))["sandbox_id"]);
      const answer = await small.call("file_write", {
        sandbox_id: tiny,
        files: [{ path: "x", content: "a".repeat(2 * 2 ** 20) }],
      });
      expectRefusal(answer, "LIMIT_EXCEEDED", /space|workspace/i);
      expect((await small.ok("file_list", { sandbox_id: tiny }))["entries"]).toEqual([]);
      await small.ok("sandbox_destroy", { sandbox_id: tiny });
    });

    it("names with newlines and leading dashes are names", async () => {
      await server.ok("file_write", {
        sandbox_id: id,
        files: [
          { path: "names/-rf", content: "1" },
          { path: "names/a\nb", content: "2" },
        ],
      });
      const { entries } = await server.ok("file_list", { sandbox_id: id, path: "names" });
      expect((entries as { path: string }[]).map((entry) => entry.path)).toEqual(["-rf", "a\nb"]);
      expect((await server.ok("file_read", { sandbox_id: id, path: "names/a\nb" }))["content"]).toBe("2");
    });
  });

  describe("programs that misbehave", () => {
    it("one that prints without end costs a fixed amount, keeps head and tail and says where the rest is", async () => {
      const result = await server.ok("exec_run", {
        sandbox_id: id,
        command: "echo FIRST; yes | head -c 30000000; echo LAST",
        timeout_s: 30,
      });
      expect(result["stdout"]).toMatch(/^FIRST\n/);
      expect(result["stdout"]).toMatch(/LAST\n$/);
      expect(Buffer.byteLength(String(result["stdout"]))).toBeLessThan(20 * 1024);
      expect(result["stdout_bytes"]).toBe(30_000_011);
      expect(result["omitted"]).toContainEqual(expect.objectContaining({ stream: "stdout", recoverable: false }));
      expect(result["omitted"]).toContainEqual(expect.objectContaining({ stream: "stdout", recoverable: true }));
    });

    it("binary output stays a valid answer within 64 KiB", async () => {
      const answer = await server.call("exec_run", {
        sandbox_id: id,
        command: "head -c 200000 /dev/zero; head -c 100000 /dev/urandom",
        max_output_bytes: 49_152,
      });
      expect(answer.isError).toBe(false);
      expect(Buffer.byteLength(JSON.stringify(answer.data))).toBeLessThanOrEqual(64 * 1024);
    });

    it("a fork bomb leaves the sandbox usable and dies with its exec", async () => {
      const bomb = await server.ok("exec_run", {
        sandbox_id: id,
        command: "b() { b | b & }; b; sleep 60",
        timeout_s: 2,
        wait_s: 20,
      });
      expect(bomb["status"]).toMatch(/timed_out|exited/);
      if (bomb["status"] === "exited")
        await server.call("exec_kill", { sandbox_id: id, exec_id: bomb["exec_id"], signal: "KILL", grace_s: 0 });
      const after = await server.ok("exec_run", { sandbox_id: id, command: "echo alive" });
      expect(after["stdout"]).toBe("alive\n");
      expect((await server.ok("sandbox_stats", { sandbox_id: id }))["pids"]).toMatchObject({
        current: expect.any(Number),
      });
      expect(
        ((await server.ok("sandbox_stats", { sandbox_id: id }))["pids"] as { current: number }).current,
      ).toBeLessThan(60);
    });

    it("one that eats memory is killed, explained and told, and the sandbox lives", async () => {
      const eaten = await server.ok("exec_run", {
        sandbox_id: id,
        // tail keeps what has no newline in memory
        command: "exec tail -c 3000000000 /dev/zero",
        wait_s: 50,
      });
      expect(eaten).toMatchObject({ status: "oom_killed", ended_by: "oom" });
      expect(String(eaten["notes"])).toMatch(/memory/);
      expect(await run("echo alive")).toMatchObject({ stdout: "alive\n" });
      const { events } = await server.ok("sandbox_events", {
        sandbox_id: id,
        types: ["limit.oom"],
        wait_s: 5,
        after: "start",
      });
      expect(events).toContainEqual(expect.objectContaining({ type: "limit.oom", exec_id: eaten["exec_id"] }));
    });

    it("nothing inside can end or read PID 1", async () => {
      const attack = await run(
        "kill -9 1; cat /proc/1/mem; cat /proc/1/environ; rm -rf /run/chorus /.chorus; echo x > /proc/1/oom_score_adj",
      );
      expect(attack["status"]).toBe("exited");
      expect(String(attack["stderr"]).split("\n").filter(Boolean).length).toBeGreaterThanOrEqual(4);
      expect(await run("echo alive")).toMatchObject({ stdout: "alive\n" });
    });
  });
});
