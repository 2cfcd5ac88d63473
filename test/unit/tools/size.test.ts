import { expect, it } from "vitest";
import type { Sandboxes } from "../../../src/sandbox/api.ts";
import { toolsByName } from "../../../src/tools/registry.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";
import { execRow, printed, sandboxView } from "../../support/mcp-samples.ts";

const call = { signal: new AbortController().signal, client: "t/1", folder: "/" };
const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value));

async function run(tool: string, args: object, service: Partial<Sandboxes>) {
  const found = toolsByName.get(tool);
  if (found === undefined) throw new Error(`no ${tool}`);
  return found.run(args, call, () => Object.assign(new FakeSandboxes(), service));
}

it("asks for less when JSON's escapes make output too large", async () => {
  const asked: number[] = [];
  const answer = await run(
    "exec_run",
    { sandbox_id: "alpha", command: "cat /dev/zero", max_output_bytes: 49_152 },
    {
      execRun: async () => printed("\0".repeat(49_152)),
      execOutput: async (_sandbox, _exec, { max_output_bytes = 0 }) => {
        asked.push(max_output_bytes);
        return printed("\0".repeat(max_output_bytes));
      },
    },
  );
  expect(bytes(answer.structuredContent)).toBeLessThanOrEqual(65_536);
  expect(bytes(answer.structuredContent)).toBeGreaterThan(40_000);
  expect(asked).toHaveLength(1);
});

it("keeps what only the first call knew", async () => {
  const big = printed("\0".repeat(49_152), "", { notes: ["ttl ends first"] });
  const service = (status: "exited" | "running") => ({
    execRun: async () => big,
    execOutput: async () => printed("less", "", { status, notes: ["no network"] }),
  });
  const args = { sandbox_id: "alpha", command: "x" };
  expect((await run("exec_run", args, service("exited"))).structuredContent["notes"]).toEqual([
    "ttl ends first",
    "no network",
  ]);
  expect((await run("exec_run", args, service("running"))).structuredContent["notes"]).toEqual(["no network"]);
});

it("asks for a shorter list when rows are long", async () => {
  const row = { ...sandboxView, labels: { long: "x".repeat(2000) } };
  const answer = await run(
    "sandbox_list",
    { limit: 200 },
    { list: async ({ limit = 50 }) => ({ sandboxes: Array.from({ length: limit }, () => row), next_cursor: "n" }) },
  );
  expect(bytes(answer.structuredContent)).toBeLessThanOrEqual(65_536);
  expect(answer.structuredContent).toMatchObject({ next_cursor: "n" });
});

it("keeps running execs and the newest, and says how many are left out", async () => {
  const old = Array.from({ length: 999 }, (_, i) => ({
    ...execRow,
    exec_id: `ex_${i}`,
    started_at: new Date(i * 1000).toISOString(),
  }));
  const running = {
    ...execRow,
    exec_id: "ex_running",
    status: "running" as const,
    exit_code: null,
    started_at: new Date(0).toISOString(),
  };
  const answer = await run(
    "exec_list",
    { sandbox_id: "alpha" },
    { execList: async () => ({ execs: [running, ...old] }) },
  );
  expect(bytes(answer.structuredContent)).toBeLessThanOrEqual(65_536);
  const ids = JSON.stringify(answer.structuredContent);
  expect(ids).toContain('"ex_running"');
  expect(ids).toContain('"ex_998"');
  expect(ids).not.toContain('"ex_0"');
  expect(answer.text).toMatch(/\d+ older ones left out/);
});

it("gives a file as large as was asked for", async () => {
  const content = '"\n'.repeat(40_000);
  const file = {
    path: "f",
    content,
    encoding: "utf8" as const,
    size_bytes: 80_000,
    mode: "0644",
    etag: "e",
    omitted: false,
  };
  const read = (max_bytes: number) =>
    run(
      "file_read",
      { sandbox_id: "alpha", path: "f", max_bytes },
      { fileRead: async (_s, request) => ({ ...file, content: content.slice(0, request.max_bytes) }) },
    );
  expect(bytes((await read(32_768)).structuredContent)).toBeLessThanOrEqual(65_536);
  expect((await read(262_144)).structuredContent).toMatchObject({ content });
});

it("refuses an answer that cannot be made smaller", async () => {
  const huge = { ...sandboxView, labels: { long: "x".repeat(70_000) } };
  await expect(run("sandbox_get", { sandbox_id: "alpha" }, { get: async () => huge })).rejects.toMatchObject({
    code: "LIMIT_EXCEEDED",
  });
});
