import { describe, expect, it } from "vitest";
import { z } from "zod";
import { SandboxError } from "../../../src/errors.ts";
import { parseArguments } from "../../../src/tools/arguments.ts";
import { toJsonSchema } from "../../../src/tools/json-schema.ts";
import { toolsByName } from "../../../src/tools/registry.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";

const input = z.strictObject({
  count: z.int().min(0).max(9).optional(),
  share: z.number().min(0).max(1).optional(),
  on: z.boolean().optional(),
  text: z.string().optional(),
  names: z.array(z.string()).optional(),
  env: z.record(z.string(), z.string().nullable()).optional(),
  items: z.array(z.strictObject({ path: z.string(), size: z.int().min(1).max(5).optional() })).optional(),
  mode: z.enum(["a", "b"]).optional(),
});
const schema = toJsonSchema(input);
const parse = (raw: unknown) => parseArguments("a_tool", input, schema, raw);

function refused(raw: unknown): string {
  try {
    parse(raw);
  } catch (error) {
    expect(error).toBeInstanceOf(SandboxError);
    if (error instanceof SandboxError) {
      expect(error.code).toBe("INVALID_ARGUMENT");
      expect(error.next).toContain("a_tool");
      return error.message;
    }
  }
  throw new Error("was accepted");
}

describe("arguments sent as strings", () => {
  it.each([
    [{ count: "7" }, { count: 7 }],
    [{ count: " 7 " }, { count: 7 }],
    [{ share: "0.5" }, { share: 0.5 }],
    [{ share: "1e-1" }, { share: 0.1 }],
    [{ on: "true" }, { on: true }],
    [{ on: "False" }, { on: false }],
    [{ names: '["x","y"]' }, { names: ["x", "y"] }],
    [{ env: '{"A":"1","B":null}' }, { env: { A: "1", B: null } }],
    [{ items: '[{"path":"p","size":"3"}]' }, { items: [{ path: "p", size: 3 }] }],
    [{ items: [{ path: "p", size: "3" }] }, { items: [{ path: "p", size: 3 }] }],
    // A string stays one where a string is wanted, whatever it looks like.
    [{ text: "7" }, { text: "7" }],
    [{ text: "[1]" }, { text: "[1]" }],
    [{ names: ["7"] }, { names: ["7"] }],
    [{ env: { A: "null" } }, { env: { A: "null" } }],
    // null for what is left out.
    [{ count: null, names: null }, {}],
    [undefined, {}],
    [null, {}],
  ])("%j means %j", (raw, meant) => {
    expect(parse(raw)).toEqual(meant);
  });
});

describe("a bad call", () => {
  it.each([
    [{ count: "seven" }, 'count: "seven" given; accepted: a whole number from 0 to 9.'],
    [{ count: 10 }, "count: 10 given; accepted: a whole number from 0 to 9."],
    [{ count: 1.5 }, "count: 1.5 given; accepted: a whole number from 0 to 9."],
    [{ count: "" }, 'count: "" given'],
    [{ on: "yes" }, 'on: "yes" given; accepted: true or false'],
    [{ names: "x" }, 'names: "x" given; accepted: an array, each a string'],
    [{ names: '{"a":1}' }, "names:"],
    [{ names: [1] }, "names[0]: 1 given; accepted: a string"],
    [{ env: { A: 1 } }, "env.A: 1 given; accepted: a string or null"],
    [{ env: { "a b\n": 1 } }, 'env."a b"'],
    [{ items: [{ size: 1 }] }, "items[0].path: missing; accepted: a string"],
    [{ mode: "c" }, 'mode: "c" given; accepted: one of a, b'],
    [{ text: { a: 1 } }, "text: an object given"],
    [{ cuont: 1 }, 'unknown argument "cuont" (did you mean count?); known: count, share'],
    [
      { items: [{ path: "p", sise: 1 }] },
      'unknown argument "sise" (did you mean size?) in items[0]; known: path, size',
    ],
    [[], "arguments: an array of 0 given"],
  ])("%j is named", (raw, words) => {
    expect(refused(raw)).toContain(words);
  });

  it("hears of everything that is wrong at once", () => {
    const message = refused({ count: 10, on: "x", mode: "c", other: 1 });
    expect(message).toMatch(/^4 things are wrong:/);
    for (const word of ["count", "on:", "mode", "other"]) expect(message).toContain(word);
  });

  it("is not echoed at length, nor with its escapes", () => {
    const message = refused({ count: `\u001b[31m${"x".repeat(10_000)}` });
    expect(message.length).toBeLessThan(300);
    expect(message).not.toContain("\u001b");
  });

  it("names at most a dozen of ten thousand issues", () => {
    expect(refused({ names: Array.from({ length: 10_000 }, () => 1) }).split("\n")).toHaveLength(14);
  });

  it("cannot reach what every object inherits", () => {
    expect(refused(JSON.parse('{"__proto__":{"count":1},"constructor":1}'))).toContain("unknown argument");
  });
});

describe("exec_run", () => {
  const call = { signal: new AbortController().signal, client: "t/1", folder: "/" };
  const run = (args: object) =>
    toolsByName.get("exec_run")?.run({ sandbox_id: "alpha", ...args }, call, () => new FakeSandboxes());

  it.each([{}, { command: "a", argv: ["b"] }])("refuses %j", async (args) => {
    await expect(run(args)).rejects.toThrow(
      "exactly one of command (a shell line) and argv (program and arguments) is needed",
    );
  });

  it("says so together with what else is wrong", async () => {
    await expect(run({ wait_s: 99 })).rejects.toThrow(/2 things are wrong.*wait_s: 99.*exactly one of/s);
  });

  it.each([{ command: "a" }, { argv: ["a"] }])("runs %j", async (args) => {
    await expect(run(args)).resolves.toMatchObject({ structuredContent: { stdout: "a\n" } });
  });

  it("opens nothing for a call that is wrong", async () => {
    let opened = 0;
    const wrong = toolsByName.get("exec_run")?.run({}, call, () => {
      opened++;
      return new FakeSandboxes();
    });
    await expect(wrong).rejects.toThrow("sandbox_id: missing");
    expect(opened).toBe(0);
  });
});
