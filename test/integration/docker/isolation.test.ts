import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { BackendSpec, SandboxBackend } from "../../../src/sandbox/backend.ts";
import { memoryBudgetMb } from "../../../src/sandbox/backend.ts";
import { connectGuest } from "../../../src/sandbox/guest/client.ts";
import type { Guest } from "../../../src/sandbox/guest/types.ts";
import { newExecId } from "../../../src/sandbox/ids.ts";
import { rawEngine, testBackend, testImage, testSpec } from "../../support/docker.ts";

const inspected = z.object({
  Config: z.object({
    User: z.string(),
    Entrypoint: z.array(z.string()),
    Cmd: z.array(z.string()).nullable(),
    WorkingDir: z.string(),
    Env: z.array(z.string()),
    StopSignal: z.string(),
    Healthcheck: z.object({ Test: z.array(z.string()) }),
  }),
  State: z.looseObject({ Status: z.string() }),
  Mounts: z.array(z.object({ Type: z.string(), Destination: z.string(), RW: z.boolean() })),
});

let backend: SandboxBackend;
const made: string[] = [];

beforeAll(() => {
  backend = testBackend();
});
afterEach(async () => {
  await Promise.all(made.splice(0).map((id) => backend.remove(id)));
});
afterAll(() => backend[Symbol.asyncDispose]());

async function start(
  tag: "busybox" | "hostile" | "scratch",
  change: Partial<BackendSpec> = {},
): Promise<{ spec: BackendSpec; guest: Guest }> {
  const { image_id } = await backend.resolveImage(testImage(tag));
  const spec = testSpec(image_id, change);
  made.push(spec.sandbox_id);
  await backend.create(spec);
  return { spec, guest: connectGuest(await backend.connect(spec.sandbox_id)) };
}

async function shell(guest: Guest, command: string): Promise<{ code: number | null; out: string }> {
  const { exec, segments } = await guest.startExec(
    newExecId("tests", 0),
    { command, merge_stderr: true },
    { wait_ms: 20_000, max_bytes: 48_000 },
  );
  return {
    code: exec.exit_code,
    out: Buffer.concat(segments.map(({ bytes }) => bytes))
      .toString()
      .trim(),
  };
}

async function volumes(): Promise<string[]> {
  const { json } = await rawEngine("GET", "/volumes");
  const { Volumes } = z
    .object({
      Volumes: z.array(z.object({ Name: z.string(), Labels: z.record(z.string(), z.string()).nullable() })).nullable(),
    })
    .parse(json);
  // Anonymous ones: the engine names them with 64 hex digits.
  return (Volumes ?? []).map(({ Name }) => Name).filter((name) => /^[0-9a-f]{64}$/.test(name));
}

describe("a sandbox of an image that declares everything it can", () => {
  test("is as any other sandbox", async () => {
    const before = await volumes();
    const { spec, guest } = await start("hostile");
    expect(await guest.health()).toMatchObject({ state: "running", uid: spec.uid, workdir: "/workspace" });
    const { json } = await rawEngine("GET", `/containers/${spec.sandbox_id}/json`);
    const container = inspected.parse(json);
    expect(container.Config).toMatchObject({
      User: "0:0",
      WorkingDir: "/",
      StopSignal: "SIGTERM",
      Healthcheck: { Test: ["NONE"] },
    });
    expect(container.Config.Entrypoint[0]).toBe("/.chorus/guest");
    expect(container.Config.Cmd ?? []).toEqual([]);
    expect(container.State).not.toHaveProperty("Health.Status", "starting");
    expect(container.Config.Env.filter((line) => !/^[^=]+=$/.test(line)).sort()).toEqual(["HOME=/", "PATH=/evil"]);
    expect(container.Mounts.filter(({ Type, RW }) => Type === "volume" && RW)).toEqual([]);

    expect(await shell(guest, "echo $HOME; env")).toMatchObject({
      code: 0,
      out: expect.not.stringMatching(/evil\.so|gctrace/),
    });
    expect((await shell(guest, "touch /data/x")).out).toMatch(/Read-only file system/);

    await guest[Symbol.asyncDispose]();
    await backend.remove(spec.sandbox_id);
    expect(await volumes()).toEqual(before);
  });
});

describe("a command", () => {
  test("has a name, a home, no capability, and cannot get one", async () => {
    const { spec, guest } = await start("busybox");
    const { out } = await shell(
      guest,
      "id -un; id -gn; echo ~; grep -E '^(Cap|NoNewPrivs|Uid|Seccomp:)' /proc/self/status; grep -c . /etc/passwd",
    );
    expect(out).toContain(`sandbox-${spec.uid}\nsandbox-${spec.uid}\n/workspace\n`);
    for (const line of [
      "CapPrm:\t0000000000000000",
      "CapEff:\t0000000000000000",
      "CapBnd:",
      "NoNewPrivs:\t1",
      "Seccomp:\t2",
    ]) {
      expect(out).toContain(line);
    }
    expect(out).toMatch(new RegExp(`Uid:\\t${spec.uid}\\t${spec.uid}\\t${spec.uid}\\t${spec.uid}`));
  });

  test("writes to the workspace and /tmp, and nowhere else", async () => {
    const { guest } = await start("busybox");
    expect(
      await shell(guest, "echo '#!/bin/sh\necho ran' > run && chmod +x run && ./run && touch /tmp/x /dev/shm/x"),
    ).toEqual({
      code: 0,
      out: "ran",
    });
    for (const path of [
      "/x",
      "/etc/x",
      "/etc/passwd",
      "/.chorus/x",
      "/.chorus/guest",
      "/run/chorus/x",
      "/proc/sys/kernel/x",
      "/sys/fs/cgroup/x",
      "/dev/x",
    ]) {
      expect(await shell(guest, `echo x > ${path}`), path).toMatchObject({
        code: expect.not.stringMatching(/^0$/),
        out: expect.stringMatching(/Read-only|denied|nonexistent|No such/),
      });
    }
  });

  test("has 127.0.0.1 and no other network, and the limits it was given", async () => {
    const resources = { cpus: 0.5, memory_mb: 64, pids: 100, workspace_mb: 16 };
    const { guest } = await start("busybox", { resources });
    expect(
      (await shell(guest, "ls /sys/class/net; ulimit -n; ulimit -c; ulimit -u 2>/dev/null || ulimit -p")).out.split(
        "\n",
      ),
    ).toEqual(["lo", "4096", "0", "100"]);
    const stats = await guest.stats();
    expect(stats.cpu.limit_cpus).toBeCloseTo(0.5);
    expect(stats.memory.limit_bytes).toBe(memoryBudgetMb(resources) * 1024 * 1024);
    expect(stats.pids.limit).toBe(100);
    expect(stats.workspace.limit_bytes).toBe(16 * 1024 * 1024);
    expect((await shell(guest, "dd if=/dev/zero of=/workspace/x bs=1M count=17")).out).toMatch(/No space left/);
  });
});

test("a dev sandbox has root and a writable root, no network and only the short list of capabilities", async () => {
  const { guest } = await start("busybox", { profile: "dev" });
  const { out } = await shell(
    guest,
    "id -u; touch /etc/x && echo written; ls /sys/class/net; grep CapBnd /proc/self/status",
  );
  expect(out).toBe("0\nwritten\nlo\nCapBnd:\t00000000000000fb");
});

test("an image with nothing in it runs the guest", async () => {
  const { spec, guest } = await start("scratch");
  expect(await guest.health()).toMatchObject({ state: "running", uid: spec.uid });
});

test("an image that is not there says so", async () => {
  await expect(
    backend.resolveImage(`chorus-sandbox/${"none".repeat(3)}:x`, { signal: AbortSignal.timeout(20_000) }),
  ).rejects.toMatchObject({
    code: expect.stringMatching(/^IMAGE_(NOT_FOUND|PULL_FAILED)$/),
  });
  const gone = testSpec(`sha256:${"0".repeat(64)}`);
  await expect(backend.create(gone)).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
  expect(await backend.status(gone.sandbox_id)).toBeUndefined();
});

test("a create that fails or is cancelled leaves nothing", async () => {
  const { image_id } = await backend.resolveImage(testImage("busybox"));
  const broken = testSpec(image_id, { runtime: "no-such-runtime" });
  await expect(backend.create(broken)).rejects.toMatchObject({ name: "SandboxError" });
  const cancelled = testSpec(image_id);
  const controller = new AbortController();
  const creating = backend.create(cancelled, controller.signal);
  setImmediate(() => controller.abort());
  await expect(creating).rejects.toMatchObject({ code: "ABORTED" });
  let late: BackendSpec;
  let outcome: unknown;
  do {
    late = testSpec(image_id);
    const soon = new AbortController();
    const starting = backend.create(late, soon.signal).catch((error: unknown) => error);
    // As soon as the engine knows it: the start is under way, or on a slow day already over.
    while ((await backend.status(late.sandbox_id)) === undefined) {}
    soon.abort();
    outcome = await starting;
    if (outcome === undefined) await backend.remove(late.sandbox_id);
  } while (outcome === undefined);
  expect(outcome).toMatchObject({ code: "ABORTED" });
  const names = (await backend.list()).map(({ sandbox_id }) => sandbox_id);
  for (const spec of [broken, cancelled, late]) expect(names).not.toContain(spec.sandbox_id);
});
