import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startServer, type TestServer } from "../support/server.ts";
import { AttackImage, attackSandbox, removeAllMade, Unhardened } from "./support.ts";

/** Commands that try to outlive their own end: by new sessions and groups, adoption, other programs, and never being the same process. */
let image: AttackImage;
let server: TestServer;
let id: string;

beforeAll(async () => {
  image = await AttackImage.make();
  server = await startServer({ env: { CHORUS_SANDBOX_IMAGE: image.name } });
  id = String((await server.ok("sandbox_create", { memory_mb: 128, pids: 200 }))["sandbox_id"]);
});
afterAll(async () => {
  await server?.ok("sandbox_destroy", { sandbox_id: id });
  await server?.[Symbol.asyncDispose]();
  await removeAllMade();
});

const newMark = () => `mark-${randomBytes(6).toString("hex")}`;

it("elsewhere they outlive it", async () => {
  await using plain = await Unhardened.start(image.name, { PidsLimit: 500 });
  const mark = newMark();
  const { stream, pid } = await plain.begin(["scatter", mark]);
  await new Promise((resolve) => stream.once("data", resolve));
  // Which is how commands are ended where only the engine knows them.
  process.kill(await pid(), "SIGKILL");
  expect(await plain.run(["survivors", mark])).toMatchObject({ code: 0, said: expect.stringMatching(/BREACH/) });
});

it.each([
  ["exec_kill", {}, async (exec_id: string) => server.ok("exec_kill", { sandbox_id: id, exec_id, signal: "KILL" })],
  [
    "exec_kill, asking nicely first",
    {},
    async (exec_id: string) => server.ok("exec_kill", { sandbox_id: id, exec_id }),
  ],
  [
    "timeout_s",
    { timeout_s: 2 },
    async (exec_id: string) => server.ok("exec_output", { sandbox_id: id, exec_id, wait_s: 30 }),
  ],
] as const)("in a sandbox nothing outlives %s", async (_what, more, end) => {
  const mark = newMark();
  const argv = ["/attack", "scatter", mark];
  const exec = await server.ok("exec_run", { sandbox_id: id, argv, until_match: "scattered", ...more });
  expect(exec).toMatchObject({ status: "running" });
  expect(await attackSandbox(server, id, ["survivors", mark]), "they are there").toMatchObject({ code: 0 });
  const ended = await end(String(exec["exec_id"]));
  expect(ended).toMatchObject({ status: expect.stringMatching(/^(killed|timed_out)$/) });
  expect(await attackSandbox(server, id, ["survivors", mark])).toMatchObject({
    code: 1,
    said: expect.stringMatching(/^REFUSED/),
  });
  expect((await server.ok("sandbox_get", { sandbox_id: id }))["running_execs"]).toBe(0);
});
