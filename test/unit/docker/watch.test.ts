import { describe, expect, test } from "vitest";
import { jsonLines } from "../../../src/sandbox/backends/docker/json-lines.ts";
import { factOf, momentOf } from "../../../src/sandbox/backends/docker/watch.ts";

const id = "sb_0123456789abcdef";
const labels = { "dev.chorus.sandbox.install": "mine", "dev.chorus.sandbox.id": id };
const docker = (Action: string, more: Record<string, string> = {}) => ({
  Type: "container",
  Action,
  status: Action,
  Actor: { ID: "f00", Attributes: { ...labels, name: id, image: "x", ...more } },
  time: 1_700_000_000,
  timeNano: Number(1_700_000_000_123_456_789n),
});

describe("an engine's event", () => {
  test.each([
    ["start", {}, { kind: "started", sandbox_id: id }],
    ["die", { exitCode: "137" }, { kind: "died", sandbox_id: id, exit_code: 137 }],
    ["die", { containerExitCode: "3" }, { kind: "died", sandbox_id: id, exit_code: 3 }],
    ["died", {}, { kind: "died", sandbox_id: id, exit_code: null }],
    ["die", { exitCode: "what" }, { kind: "died", sandbox_id: id, exit_code: null }],
    ["oom", {}, { kind: "oom", sandbox_id: id }],
    ["destroy", {}, { kind: "removed", sandbox_id: id }],
    ["remove", {}, { kind: "removed", sandbox_id: id }],
    ["exec_create: /.chorus/guest connect", {}, undefined],
    ["kill", {}, undefined],
  ])("%s %j is %j", (action, more, fact) => {
    expect(factOf(docker(action, more), "mine")).toEqual(fact);
  });

  test.each([
    ["of another install", docker("die", { "dev.chorus.sandbox.install": "theirs" })],
    ["of a container made from a committed sandbox", docker("die", { name: "users-own" })],
    ["without a sandbox's id", docker("die", { "dev.chorus.sandbox.id": "../x" })],
    ["without attributes", { Action: "die", Actor: { ID: "x" } }],
    ["of no shape", 7],
    ["of nothing", null],
  ])("%s says nothing", (_, event) => {
    expect(factOf(event, "mine")).toBeUndefined();
  });

  test("has a moment at or just before it, in nanoseconds", () => {
    expect(momentOf(docker("die"))).toMatch(/^1700000000\.12345[56]\d{3}$/);
    expect(momentOf({ time: 5 })).toBe("5.000000000");
    expect(momentOf({ time: 5, timeNano: 5_000_000_000 })).toBe("5.000000000");
    expect(momentOf({})).toBeUndefined();
  });
});

describe("lines of JSON", () => {
  async function read(...chunks: (string | Buffer)[]): Promise<unknown[]> {
    const values: unknown[] = [];
    async function* source() {
      for (const chunk of chunks) yield Buffer.from(chunk);
    }
    for await (const value of jsonLines(source())) values.push(value);
    return values;
  }

  test("come whole however they are cut, also within a character", async () => {
    const bytes = Buffer.from('{"a":"é"}\r\n\n{"b":1}\nnot json\n{"c":2}');
    for (let at = 0; at < bytes.length; at++) {
      expect(await read(bytes.subarray(0, at), bytes.subarray(at))).toEqual([{ a: "é" }, { b: 1 }, { c: 2 }]);
    }
  });

  test("without end are refused", async () => {
    await expect(read("x".repeat(1024 * 1024), "y".repeat(10))).rejects.toThrow(/longer/);
  });
});
