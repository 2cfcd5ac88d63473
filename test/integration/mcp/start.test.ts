import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeEach, expect, it } from "vitest";
import { copiesDir, copyInstallation } from "../../support/installation.ts";
import { RawServer } from "../../support/mcp-process.ts";
import { root } from "../../support/server.ts";

const installation = path.join(copiesDir, "mcp-server", `start-${process.pid}`);
const dist = path.join(installation, "dist");
const hash = createHash("sha1")
  .update(readFileSync(path.join(root, "dist/program.cjs")))
  .digest("hex")
  .slice(0, 12);
const cache = path.join(dist, `program-${hash}.v8-${process.versions.v8}-${process.arch}.cache`);

beforeEach(() => {
  rmSync(installation, { recursive: true, force: true });
  copyInstallation(installation);
});
afterAll(() => rmSync(installation, { recursive: true, force: true }));

/** One session, from its first words to the end of its input. */
async function session(): Promise<void> {
  await using server = new RawServer({ command: process.execPath, args: [path.join(dist, "main.js")] });
  expect((await server.initialize()).result).toMatchObject({ serverInfo: { name: "chorus-sandbox" } });
  expect(JSON.stringify((await server.request(1, "tools/list")).result)).toContain("exec_run");
  server.child.stdin.end();
  expect(await server.exited).toBe(0);
  expect(server.stderr).toBe("");
}

const written = (file: string) => statSync(file).mtimeMs;

it("keeps its compiled code at the end of the first session, and leaves it as it is from then on", async () => {
  await session();
  const first = written(cache);
  expect(statSync(cache).size).toBeGreaterThan(100_000);
  await session();
  expect(written(cache)).toBe(first);
  expect(readdirSync(dist).filter((name) => name.includes(".cache"))).toEqual([path.basename(cache)]);
});

it("passes over compiled code that V8 does not take, and replaces it", async () => {
  writeFileSync(cache, "no compiled code");
  await session();
  expect(statSync(cache).size).toBeGreaterThan(100_000);
});

it("passes over compiled code of another program of the same length", async () => {
  const other = path.join(dist, "program.cjs");
  writeFileSync(other, readFileSync(other, "utf8").replace('name: "chorus-sandbox"', 'name: "chorus-sandbux"'));
  await using server = new RawServer({ command: process.execPath, args: [path.join(dist, "main.js")] });
  expect((await server.initialize()).result).toMatchObject({ serverInfo: { name: "chorus-sandbux" } });
  expect(existsSync(cache)).toBe(false);
});

it("reads a program that means the same whatever its encoding is", () => {
  expect(readFileSync(path.join(root, "dist/program.cjs")).find((byte) => byte > 0x7f)).toBeUndefined();
});

it("keeps nothing of a start that failed", async () => {
  const failed = new RawServer({
    command: "env",
    args: ["CHORUS_SANDBOX_POOL=many", process.execPath, path.join(dist, "main.js")],
  });
  expect(await failed.exited).toBe(78);
  expect(existsSync(cache)).toBe(false);
});

it("does without where it may not write", async () => {
  mkdirSync(path.join(cache, "in the way"), { recursive: true });
  await session();
  expect(existsSync(path.join(cache, "in the way"))).toBe(true);
  expect(readdirSync(dist).filter((name) => name.includes(".cache"))).toEqual([path.basename(cache)]);
});
