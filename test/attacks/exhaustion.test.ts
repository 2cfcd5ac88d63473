import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer, type TestServer, throughTheEngine } from "../support/server.ts";
import { AttackImage, attackSandbox, removeAllMade, Unhardened } from "./support.ts";

/**
 * Attacks that take too much. Elsewhere they get all they ask for; in a sandbox they hit its limits, and while they do, the guest
 * answers, and so does the sandbox beside it.
 */
let image: AttackImage;
let plain: Unhardened;
let server: TestServer;
let id: string;
let neighbour: string;

beforeAll(async () => {
  image = await AttackImage.make();
  [plain, server] = await Promise.all([
    Unhardened.start(image.name),
    startServer({ env: { CHORUS_SANDBOX_IMAGE: image.name } }),
  ]);
  const create = async (more: Record<string, unknown>) =>
    String((await server.ok("sandbox_create", { memory_mb: 64, workspace_mb: 16, ...more }))["sandbox_id"]);
  [id, neighbour] = await Promise.all([create({ pids: 96 }), create({})]);
});

afterAll(async () => {
  for (const sandbox_id of [id, neighbour]) await server?.ok("sandbox_destroy", { sandbox_id });
  await server?.[Symbol.asyncDispose]();
  await removeAllMade();
});

/** What an agent, and an operator, still need of a sandbox that is being exhausted. */
async function answers(): Promise<void> {
  const sandbox_id = id;
  const [stats, list, file, view, beside] = await Promise.all([
    server.ok("sandbox_stats", { sandbox_id }),
    server.ok("exec_list", { sandbox_id }),
    server.ok("file_read", { sandbox_id, path: "/etc/hostname" }),
    server.ok("sandbox_get", { sandbox_id }),
    server.ok("exec_run", { sandbox_id: neighbour, command: "echo undisturbed" }),
  ]);
  expect(stats["pids"]).toMatchObject({ limit: expect.any(Number) });
  expect(list["execs"]).not.toEqual([]);
  expect(file).toMatchObject({ content: "sandbox\n" });
  expect(view).toMatchObject({ state: "running" });
  expect(beside).toMatchObject({ stdout: "undisturbed\n" });
}

/** Starts an attack in the background and waits until it says that it has taken what it can. */
async function begin(args: readonly string[], until_match: string): Promise<string> {
  const exec = await server.ok("exec_run", { sandbox_id: id, argv: ["/attack", ...args], wait_s: 40, until_match });
  expect(exec, String(exec["stdout"])).toMatchObject({ status: "running" });
  return String(exec["exec_id"]);
}

describe.each([
  ["processes", ["forks", "2000"], /^REFUSED EAGAIN/],
  ["files open at once", ["fds", "8000"], /^REFUSED EMFILE/],
  ["disk in the workspace", ["disk", "40", "/workspace"], /^REFUSED ENOSPC/],
  ["disk in /tmp", ["disk", "200", "/tmp"], /^REFUSED ENOSPC/],
  ["files in the workspace", ["inodes", "40000", "/workspace"], /^REFUSED ENOSPC/],
  ["files in /tmp", ["inodes", "40000", "/tmp"], /^REFUSED ENOSPC/],
  ["files in /dev/shm", ["inodes", "40000", "/dev/shm"], /^REFUSED ENOSPC/],
] as const)("%s", (_what, args, refusal) => {
  it("end at the sandbox's limit, and nowhere else", async () => {
    // /workspace is the sandbox's own word for it.
    const outside = args.map((arg) => (arg === "/workspace" ? "/" : arg));
    const [inside, elsewhere] = await Promise.all([attackSandbox(server, id, args), plain.run(outside)]);
    expect(elsewhere, "without limits").toMatchObject({ code: 0, said: expect.stringMatching(/BREACH/) });
    expect(inside).toMatchObject({ code: 1, said: expect.stringMatching(refusal) });
    await answers();
  });
});

it("memory: the attack is killed, and the guest is not", async () => {
  expect(await plain.run(["memory", "600"])).toMatchObject({ code: 0, said: "BREACH 600 MiB" });
  const done = await server.ok("exec_run", { sandbox_id: id, argv: ["/attack", "memory", "600"], wait_s: 40 });
  expect(done).toMatchObject({ status: "oom_killed", stdout: "" });
  await answers();
});

/** Servers that have not spoken to the sandbox before: each needs a bridge of its own, and so the reserve. */
async function newcomersSee(): Promise<void> {
  const newcomers: TestServer[] = [];
  try {
    while (newcomers.length < 5) {
      const newcomer = await startServer({ dataDir: server.dataDir, prefix: throughTheEngine });
      newcomers.push(newcomer);
      expect((await newcomer.ok("exec_list", { sandbox_id: id }))["execs"]).not.toEqual([]);
    }
  } finally {
    for (const newcomer of newcomers) await newcomer[Symbol.asyncDispose]();
  }
}

describe.each([
  ["as created", undefined, 96],
  ["raised", 160, 160],
  ["lowered", 80, 80],
] as const)("a fork bomb, with pids %s", (_how, pids, limit) => {
  it("leaves the guest its reserve, and its end is an end", async () => {
    if (pids !== undefined) await server.ok("sandbox_update", { sandbox_id: id, pids });
    const counted = await attackSandbox(server, id, ["forks", "2000"]);
    const children = Number(/after (\d+) children/.exec(counted.said)?.[1]);
    // The attack itself and its threads are among them.
    expect(children, counted.said).toBeLessThan(limit);
    expect(children, counted.said).toBeGreaterThan(limit - 20);

    const exec_id = await begin(["fork-bomb"], "full");
    await answers();
    await expect
      .poll(async () => (await server.ok("sandbox_stats", { sandbox_id: id }))["pids"], { timeout: 20_000 })
      .toEqual({ limit, current: expect.closeTo(limit, -1) });
    await newcomersSee();
    const killed = await server.ok("exec_kill", { sandbox_id: id, exec_id, signal: "KILL" });
    expect(killed).toMatchObject({ status: "killed" });
    expect(await server.ok("exec_run", { sandbox_id: id, command: "echo over" })).toMatchObject({ stdout: "over\n" });
    expect((await server.ok("sandbox_get", { sandbox_id: id }))["running_execs"]).toBe(0);
  }, 180_000);
});

it("a fork bomb that runs while pids are lowered: the guest has its reserve again", async () => {
  await server.ok("sandbox_update", { sandbox_id: id, pids: 160 });
  const exec_id = await begin(["fork-bomb"], "full");
  await server.ok("sandbox_update", { sandbox_id: id, pids: 80 });
  await answers();
  const killed = await server.ok("exec_kill", { sandbox_id: id, exec_id, signal: "KILL" });
  expect(killed, String(killed["stderr"])).toMatchObject({ status: "killed" });
  const counted = await attackSandbox(server, id, ["forks", "2000"]);
  expect(Number(/after (\d+) children/.exec(counted.said)?.[1]), counted.said).toBeLessThan(80);
}, 180_000);

it("commands that run while pids are lowered keep the reserve, too", async () => {
  await server.ok("sandbox_update", { sandbox_id: id, pids: 160 });
  const command = "read go; exec /attack forks 2000";
  const exec = await server.ok("exec_run", { sandbox_id: id, command, keep_stdin: true, wait_s: 0 });
  await server.ok("sandbox_update", { sandbox_id: id, pids: 80 });
  const exec_id = exec["exec_id"];
  await server.ok("exec_input", { sandbox_id: id, exec_id, data: "go\n" });
  const done = await server.ok("exec_output", { sandbox_id: id, exec_id, wait_s: 30 });
  expect(Number(/after (\d+) children/.exec(String(done["stdout"]))?.[1]), String(done["stdout"])).toBeLessThan(80);
});
