import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { engine } from "../support/engine.ts";
import { copiesDir, copyInstallation } from "../support/installation.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";
import { buildProgram } from "./support.ts";

/**
 * A sandbox whose guest was captured, on a real engine, and the real server against it. An installation with a hostile guest makes
 * the sandboxes; a server of the same data folder with nothing wrong about it has to live with them, and so has the sandbox beside.
 */
const base = mkdtempSync(path.join(tmpdir(), "chorus-hostile-"));
const host = path.join(base, "open");
const dataDir = path.join(base, "data");
const capturedInstall = path.join(copiesDir, "attacks", `install-${process.pid}`);
const instructions = /IGNORE ALL PREVIOUS/;
let captured: TestServer;
let server: TestServer;
let hostile: string;
let honest: string;

beforeAll(async () => {
  mkdirSync(host);
  writeFileSync(path.join(base, "secret"), "untouched\n");
  const program = await buildProgram("hostile-guest");
  const dist = copyInstallation(capturedInstall);
  mkdirSync(path.join(dist, "guest"));
  for (const arch of ["amd64", "arm64"])
    writeFileSync(path.join(dist, `guest/chorus-guest-linux-${arch}`), program, { mode: 0o755 });
  // First, so that it is the keeper.
  server = await startServer({ dataDir, env: { CHORUS_SANDBOX_HOST_DIRS: `${host}:rw` } });
  honest = await create(server);
  captured = await startServer({ dataDir, main: path.join(capturedInstall, "dist/main.js") });
  hostile = await create(captured);
});

afterAll(async () => {
  for (const sandbox_id of [hostile, honest]) await server?.call("sandbox_destroy", { sandbox_id });
  await captured?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  // Of a guest that nobody else has.
  const { Volumes } = await engine().listVolumes({ filters: JSON.stringify({ dangling: ["true"] }) });
  const program = path.join(capturedInstall, "dist/guest/chorus-guest-linux-amd64");
  if (existsSync(program)) {
    const { GuestVolumes } = await import("../../src/sandbox/backends/docker/guest-volume.ts");
    const { EngineClient } = await import("../../src/sandbox/backends/docker/client.ts");
    const nowhere = new EngineClient({ host: "unix:///nonexistent.sock", home: "/", uid: 0 });
    const { name } = await new GuestVolumes(nowhere, () => program, "nobody").identity("amd64");
    for (const { Name } of Volumes.filter((volume) => volume.Name.startsWith(name)))
      await engine().getVolume(Name).remove();
  }
  for (const folder of [base, capturedInstall]) rmSync(folder, { recursive: true, force: true });
});

async function create(by: TestServer, more: Record<string, unknown> = {}): Promise<string> {
  return String((await by.ok("sandbox_create", { memory_mb: 64, workspace_mb: 16, ...more }))["sandbox_id"]);
}

/** Anything a terminal would obey; lines may end. */
const hasControls = (text: string): boolean =>
  [...text].some((char) => (char < " " && char !== "\n") || (char >= "\u007f" && char <= "\u009f"));

const residentMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

const honestWorks = async () =>
  expect(await server.ok("exec_run", { sandbox_id: honest, command: "echo honest" })).toMatchObject({
    stdout: "honest\n",
  });

describe("a lie about a command", () => {
  it("costs an error in our words, a bounded time and nothing else", async () => {
    await honestWorks();
    const before = residentMb(server.pid);
    // biome-ignore format: one list
    const lies = ["silent", "drip", "endless-header", "endless-body", "other-exec", "huge-number", "escape", "foreign", "redirect", "obey"];
    const answers = await Promise.all(
      lies.map((lie) => server.call("exec_run", { sandbox_id: hostile, argv: [lie], wait_s: 1 })),
    );
    await honestWorks();
    const codes = Object.fromEntries(answers.map(({ error }, n) => [lies[n], error?.code]));
    expect(codes).toEqual({
      ...Object.fromEntries(lies.map((lie) => [lie, "GUEST_UNAVAILABLE"])),
      silent: "TIMEOUT",
      drip: "TIMEOUT",
      // What a guest says in its own words is quoted and cut.
      obey: "INTERNAL",
    });
    for (const { text, error } of answers) {
      expect(hasControls(text)).toBe(false);
      expect(error?.message.length).toBeLessThan(600);
      if (instructions.test(text)) expect(text).toMatch(/"[^"]*IGNORE ALL PREVIOUS[^"]*"/);
    }
    expect(residentMb(server.pid) - before).toBeLessThan(150);
  });

  it("made-up facts end neither a command that never was nor the sandbox", async () => {
    await server.ok("exec_run", { sandbox_id: hostile, argv: ["false-facts"], wait_s: 20 });
    expect(await server.ok("sandbox_get", { sandbox_id: hostile })).toMatchObject({ state: "running" });
    const { events } = await server.ok("sandbox_events", { sandbox_id: hostile, after: "start", limit: 200 });
    expect(JSON.stringify(events)).not.toMatch(/ex_another|lifecycle\.(died|destroyed)/);
  });

  it("a flood of its flight recorder is cut by the engine and by the server", async () => {
    await server.ok("exec_run", { sandbox_id: hostile, argv: ["flood"], wait_s: 20 });
    const words = await engine().getContainer(hostile).logs({ stdout: true, follow: false });
    expect(words.length).toBeLessThan(3 * 1024 * 1024);
    await honestWorks();
  });
});

it("an archive that wants to land elsewhere lands below, without what leads out", async () => {
  const answer = await server.call("file_download", {
    sandbox_id: hostile,
    path: ".",
    host_path: path.join(host, "got"),
  });
  expect(readFileSync(path.join(base, "secret"), "utf8")).toBe("untouched\n");
  expect(readdirSync(base).sort()).toEqual(["data", "open", "secret"]);
  expect(readdirSync(host)).toEqual(["got"]);
  expect(existsSync("/tmp/chorus-attack-absolute")).toBe(false);
  expect(readFileSync(path.join(host, "got/honest"), "utf8")).toBe("honest\n");
  expect(hasControls(answer.text), answer.text).toBe(false);
  const landed = readdirSync(path.join(host, "got"));
  for (const name of ["absolute", "hard", "hard-absolute", "device", "fifo"]) expect(landed).not.toContain(name);
});

describe.each([["silent"], ["foreign"], ["garbage"]])("a guest that has turned %s", (how) => {
  it("is seen and destroyed all the same", async () => {
    const sandbox_id = await create(captured);
    await server.ok("exec_run", { sandbox_id, argv: ["turn", how], wait_s: 20 });
    expect(await server.ok("sandbox_get", { sandbox_id })).toMatchObject({ sandbox_id, state: "running" });
    expect((await server.ok("sandbox_list"))["sandboxes"]).toContainEqual(expect.objectContaining({ sandbox_id }));
    await honestWorks();
    expect(await server.ok("sandbox_destroy", { sandbox_id })).toMatchObject({ destroyed: true });
    expect(await server.ok("sandbox_get", { sandbox_id })).toMatchObject({
      state: "ended",
      ended: { reason: "request" },
    });
  });
});

it("a guest that claims a far lease and never ends is ended through the engine", async () => {
  const sandbox_id = await create(captured, { ttl_s: 1 });
  const view = await eventually(
    "the sandbox is over",
    async () => {
      const seen = await server.ok("sandbox_get", { sandbox_id });
      return seen["state"] === "ended" && seen;
    },
    40_000,
  );
  expect(view).toMatchObject({ ended: { reason: "ttl", exit_code: 137 } });
});
