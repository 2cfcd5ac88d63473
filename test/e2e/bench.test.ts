import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { plot } from "../../bench/lib/plot.mjs";
import { markdown, terminalTable } from "../../bench/lib/show.mjs";
import { root } from "../support/server.ts";

const run = async (script: string, args: string[]) => {
  const child = spawn(process.execPath, [path.join(root, script), ...args], { stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill());
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
};

const figure = { name: expect.any(String), unit: expect.any(String), p50: expect.any(Number), n: expect.any(Number) };

describe("npm run bench", () => {
  it("measures, tells and writes down what it is asked for", { timeout: 240_000 }, async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "chorus-bench-test-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const json = path.join(folder, "report.json");
    const { code, said } = await run("bench/main.mjs", ["--quick", "--only", "mcp,exec,journal", "--json", json]);
    expect(code, said).toBe(0);
    const report = JSON.parse(readFileSync(json, "utf8"));
    expect(report).toMatchObject({ format: 1, failures: [], machine: { line: expect.stringContaining("cores") } });
    const ids = report.rows.map((row: { id: string }) => row.id);
    expect(ids).toEqual(
      expect.arrayContaining([
        "mcp.noop",
        "mcp.start",
        "exec.true",
        "exec.guest",
        "exec.many",
        "exec.deadline",
        "journal.commit",
        "journal.drain",
      ]),
    );
    for (const row of report.rows) {
      expect(row.ours).toMatchObject(figure);
      expect(row.ours.p50).toBeGreaterThan(0);
      expect(row.ours.p99).toBeGreaterThanOrEqual(row.ours.p50);
      for (const goal of row.goals) expect(goal).toEqual({ text: expect.any(String), met: expect.any(Boolean) });
    }
    expect(report.rows.find((row: { id: string }) => row.id === "exec.true")).toMatchObject({
      engine: figure,
      floor: figure,
    });
    expect(said).toContain("exec of true through MCP");
    expect(terminalTable(report)).toContain("docker exec");
    expect(markdown(report)).toContain("| exec of true through MCP |");
    const [curve] = report.curves;
    expect(curve.series.map((series: { points: unknown[] }) => series.points.length)).toEqual([3, 3, 3]);
    expect(plot(curve)).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
  });

  it("refuses what it does not know", async () => {
    expect(await run("bench/main.mjs", ["--only", "nonsense"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("nothing is called nonsense"),
    });
  });
});
