import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, it } from "vitest";
import { containersOf, killContainer } from "../support/engine.ts";
import { busybox, eventually, root, startServer, type TestServer } from "../support/server.ts";

let dataDir: string;
let servers: TestServer[];
const start = async () => {
  const server = await startServer({ dataDir, env: { CHORUS_SANDBOX_POOL: "1" } });
  servers.push(server);
  return server;
};
beforeEach(() => {
  dataDir = path.join(mkdtempSync(path.join(tmpdir(), "chorus-pool-")), "data");
  servers = [];
});
afterEach(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  rmSync(path.dirname(dataDir), { recursive: true, force: true });
});

/** The warm sandbox, once the log of its keeper says that it is ready and it is none of those known. */
const member = (keeper: TestServer, ...known: string[]) =>
  eventually("a warm sandbox is ready", () =>
    [...keeper.log().matchAll(/"sandbox_id":"(sb_\w+)","msg":"a warm sandbox is ready"/g)]
      .map(([, id]) => id)
      .find((id) => id !== undefined && !known.includes(id)),
  );

it("two servers share one warm sandbox: one of them gets it, with its uid, whole and usable", async () => {
  const [keeper, other] = [await start(), await start()];
  const first = await keeper.ok("sandbox_create");
  const id = await member(keeper);
  const request = { env: { GREETING: "hello" } };
  // Not the keeper, so without a session to the warm sandbox; the two ask for the same one.
  const made = await Promise.all([other.ok("sandbox_create", request), keeper.ok("sandbox_create", request)]);
  expect(new Set(made.map(({ sandbox_id }) => sandbox_id)).size).toBe(2);
  expect(made.find(({ sandbox_id }) => sandbox_id === id)).toMatchObject({ warm: true });
  for (const { sandbox_id } of made) {
    const ran = await keeper.ok("exec_run", {
      sandbox_id,
      command: "echo $GREETING; id -un; touch ~/mine && echo own",
    });
    expect(ran["stdout"]).toMatch(/^hello\nsandbox-\d{5}\nown\n$/);
  }
  const { events } = await other.ok("sandbox_events", { sandbox_id: id, after: "start" });
  expect((events as { type: string; warm?: boolean }[]).slice(0, 2)).toMatchObject([
    { type: "lifecycle.created", warm: true },
    { type: "lifecycle.ready" },
  ]);
  // Killed, it tells how it ended like any other: the flight recorder is read before the shell goes.
  const running = [first, ...made].map(({ sandbox_id }) => sandbox_id).filter((one) => one !== id);
  for (const sandbox_id of running) await keeper.ok("sandbox_destroy", { sandbox_id });
  const bin = await keeper.ok("exec_run", { sandbox_id: id, command: "sleep 60", wait_s: 0 });
  await killContainer(id);
  await eventually(
    "its end is told",
    async () => (await other.ok("sandbox_get", { sandbox_id: id }))["state"] === "ended",
  );
  const told = await other.ok("sandbox_events", { sandbox_id: id, after: "start" });
  expect(told["events"]).toContainEqual(expect.objectContaining({ type: "exec.completed", exec_id: bin["exec_id"] }));
  expect(told["events"]).toContainEqual(expect.objectContaining({ type: "lifecycle.died", exit_code: 137 }));
});

it("a claimant killed between guest and store leaves nothing: the member lapses and is replaced", async () => {
  const keeper = await start();
  const { sandbox_id: first } = await keeper.ok("sandbox_create");
  const id = await member(keeper);
  const script = path.join(root, "test/support/claimant.mjs");
  const claimant = spawn(process.execPath, [script, path.join(root, "dist"), dataDir, busybox, "1500"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface({ input: claimant.stdout }), "line");
  expect(JSON.parse(String(line))).toBe(id);
  claimant.kill("SIGKILL");
  await once(claimant, "exit");
  await eventually("it lapsed", async () => (await containersOf([id])).length === 0);
  const next = await member(keeper, id);
  const made = await keeper.ok("sandbox_create");
  expect(made).toMatchObject({ sandbox_id: next, warm: true });
  const { sandboxes } = await keeper.ok("sandbox_list", { include_ended: true });
  expect((sandboxes as { sandbox_id: string }[]).map((row) => row.sandbox_id)).toEqual([next, first]);
  // Nor does the last server to close leave any.
  const last = await member(keeper, id, next);
  for (const sandbox_id of [next, first]) await keeper.ok("sandbox_destroy", { sandbox_id });
  await keeper[Symbol.asyncDispose]();
  await eventually("nothing is left", async () => (await containersOf([String(first), id, next, last])).length === 0);
});
