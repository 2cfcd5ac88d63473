import { describe, expect, it } from "vitest";
import { execNotes } from "../../src/sandbox/exec-notes.ts";
import type { ExecSnapshot } from "../../src/sandbox/guest/types.ts";
import { execResult, matchText, streamText } from "../../src/sandbox/output.ts";

const exec: ExecSnapshot["exec"] = {
  exec_id: "ex_1",
  status: "exited",
  exit_code: 0,
  signal: null,
  ended_by: "self",
  oom_kills: 0,
  left_running: 0,
  cwd: "/workspace",
  tty: false,
  pid: 7,
  started_at: "2026-01-01T00:00:00.000Z",
  ended_at: "2026-01-01T00:00:01.000Z",
  duration_ms: 1000,
  stdout_bytes: 0,
  stderr_bytes: 0,
  omitted_bytes: 0,
  stdout_kept: [],
  stderr_kept: [],
};
const segment = (from: number, text: string | Buffer, stream: "stdout" | "stderr" = "stdout") => ({
  stream,
  from,
  bytes: Buffer.from(text),
});
const context = { eventCursor: "5", memoryMb: 512 };

describe("streamText", () => {
  it("joins nothing silently: what lies between head and tail is named and located", () => {
    const snapshot = {
      exec: {
        ...exec,
        stdout_bytes: 1000,
        stdout_kept: [
          [0, 100],
          [900, 1000],
        ] as [number, number][],
      },
      segments: [segment(0, "head\n"), segment(990, "tail line\n")],
    };
    const { text, next, omitted } = streamText(snapshot, "stdout", 0);
    expect(text).toBe("head\n[… 985 bytes of stdout left out …]\ntail line\n");
    expect(next).toBe(1000);
    expect(omitted).toEqual([
      { stream: "stdout", from: 5, to: 100, recoverable: true },
      { stream: "stdout", from: 100, to: 900, recoverable: false },
      { stream: "stdout", from: 900, to: 990, recoverable: true },
    ]);
  });

  it("reads on from an offset", () => {
    const snapshot = {
      exec: { ...exec, stdout_bytes: 8, stdout_kept: [[0, 8]] as [number, number][] },
      segments: [segment(5, "abc")],
    };
    expect(streamText(snapshot, "stdout", 5)).toEqual({ text: "abc", next: 8, omitted: [] });
  });

  it("shows invalid bytes harmlessly", () => {
    const snapshot = { exec, segments: [segment(0, Buffer.from([0x61, 0xff, 0x62]))] };
    expect(streamText(snapshot, "stdout", 0).text).toBe("a\ufffdb");
  });

  it("is empty without output", () => {
    expect(streamText({ exec, segments: [] }, "stderr", 0)).toEqual({ text: "", next: 0, omitted: [] });
  });
});

describe("matchText", () => {
  it("tells where each place is and leaves nothing out", () => {
    const snapshot = { exec, segments: [segment(0, "a\nerr 1\n"), segment(500, "b\nerr 2\nc\n")] };
    expect(matchText(snapshot, "stdout", 0)).toEqual({
      text: "a\nerr 1\n[… stdout from byte 500 …]\nb\nerr 2\nc\n",
      next: 510,
      omitted: [],
    });
  });

  it("reads a line again that had not ended", () => {
    const running = { ...exec, status: "running" as const };
    const segments = [segment(10, "err 1\nhal")];
    expect(matchText({ exec: running, segments }, "stdout", 5).next).toBe(16);
    expect(matchText({ exec, segments }, "stdout", 5).next).toBe(19);
    expect(matchText({ exec: running, segments: [segment(16, "hal")] }, "stdout", 16).next).toBe(19);
    expect(matchText({ exec, segments: [] }, "stdout", 5).next).toBe(5);
  });
});

describe("execResult", () => {
  const notesOf = (snapshot: Partial<ExecSnapshot>, asked: Parameters<typeof execResult>[1]) =>
    execResult({ exec, segments: [], ...snapshot }, asked, context).notes?.join("\n") ?? "";
  const running = { ...exec, status: "running" as const, exit_code: null, ended_by: null };

  it("says whether the line that was waited for came", () => {
    const matched = { stream: "stderr" as const, offset: 7, line: "Serving\u001b[2J on 80" };
    expect(notesOf({ exec: running, matched }, { until_match: "Serving" })).toBe(
      'until_match: stderr has at byte 7 the line "Serving [2J on 80".',
    );
    expect(notesOf({ exec: running }, { until_match: "x" })).toMatch(/no line matches so far/);
    expect(notesOf({}, { until_match: "x" })).toMatch(/ended without/);
  });

  it("counts what a search found, and what it could not see", () => {
    const found = { total: 1, partial: false, more: false };
    expect(notesOf({ found }, { match: "x" })).toBe("match: 1 line matches.");
    expect(notesOf({ found: { ...found, total: 900, more: true } }, { match: "x" })).toMatch(
      /900 lines match. Not all/,
    );
    const gone = { exec: { ...exec, omitted_bytes: 5 }, found: { total: 0, partial: true, more: false } };
    expect(notesOf(gone, { match: "x" })).toMatch(/at least 0 lines.*in time.*5 bytes are no longer kept/);
    const old = execResult({ exec, segments: [segment(0, "all of it")] }, { match: "x" }, context);
    expect([old.stdout, old.notes?.join()]).toEqual(["all of it", expect.stringContaining("too old to search")]);
  });

  it("has an exit code only when the process exited by itself", () => {
    expect(execResult({ exec: { ...exec, exit_code: 3 }, segments: [] }, {}, context).exit_code).toBe(3);
    const killed = { ...exec, status: "killed" as const, exit_code: 137, signal: "KILL", ended_by: "kill" as const };
    expect(execResult({ exec: killed, segments: [] }, {}, context)).toMatchObject({
      exit_code: null,
      signal: "KILL",
      ended_by: "kill",
    });
  });
});

describe("execNotes", () => {
  const none = { stdout: "", stderr: "" };
  it.each([
    ["out of memory", { status: "oom_killed" as const, exit_code: null }, none, /lack of memory.*512 MiB/],
    ["a child out of memory", { oom_kills: 1, exit_code: 137 }, none, /1 process\(es\).*lack of memory/],
    ["137 without memory", { exit_code: 137 }, none, /no memory limit was hit/],
    ["127", { exit_code: 127 }, none, /did not find the program/],
    ["timeout", { status: "timed_out" as const }, none, /timeout_s was over/],
    ["children left", { left_running: 2 }, none, /2 process\(es\).*background/],
    [
      "no network",
      { exit_code: 6 },
      { stdout: "", stderr: "curl: (6) Could not resolve host: example.org" },
      /no network/,
    ],
  ])("explains %s", (_, change, texts, expected) => {
    expect(execNotes({ ...exec, ...change }, texts, { memoryMb: 512 }).join("\n")).toMatch(expected);
  });

  it("warns of a ttl shorter than the timeout", () => {
    const running = { ...exec, status: "running" as const, exit_code: null, duration_ms: 20_000 };
    const note = (ttlRemainingMs: number) =>
      execNotes(running, none, { memoryMb: 512, timeoutMs: 60_000, ttlRemainingMs });
    expect(note(10_000)[0]).toMatch(/ttl ends in 10 s/);
    // It has run for 20 s: what is left of timeout_s fits.
    expect(note(41_000)).toEqual([]);
    const over = { memoryMb: 512, timeoutMs: 60_000, ttlRemainingMs: 10_000 };
    expect(execNotes(exec, none, over)).toEqual([]);
  });

  it("has nothing to say about a plain success", () => {
    expect(execNotes(exec, { stdout: "Could not resolve host", stderr: "" }, { memoryMb: 512 })).toEqual([]);
  });
});
