import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { BackendSpec, SandboxBackend } from "../../../src/sandbox/backend.ts";
import { connectGuest } from "../../../src/sandbox/guest/client.ts";
import type { Guest } from "../../../src/sandbox/guest/types.ts";
import { newExecId } from "../../../src/sandbox/ids.ts";
import { testBackend, testImage, testSpec } from "../../support/docker.ts";

/** What an operator chose, as a command inside finds it. */
let backend: SandboxBackend;
let imageId: string;
const made: string[] = [];

beforeAll(async () => {
  backend = testBackend();
  imageId = (await backend.resolveImage(testImage("busybox"))).image_id;
});
afterEach(async () => {
  await Promise.all(made.splice(0).map((id) => backend.remove(id)));
});
afterAll(() => backend[Symbol.asyncDispose]());

async function start(change: Partial<BackendSpec>): Promise<(command: string) => Promise<string>> {
  const spec = testSpec(imageId, change);
  made.push(spec.sandbox_id);
  await backend.create(spec);
  const guest = connectGuest(await backend.connect(spec.sandbox_id));
  return (command) => output(guest, command);
}

async function output(guest: Guest, command: string): Promise<string> {
  const view = { wait_ms: 20_000, max_bytes: 48_000 };
  const { segments } = await guest.startExec(newExecId("tests", 0), { command, merge_stderr: true }, view);
  return Buffer.concat(segments.map(({ bytes }) => bytes))
    .toString()
    .trim();
}

test("a seccomp profile replaces the engine's, and binds", async () => {
  const seccomp = JSON.stringify({
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["symlink", "symlinkat"], action: "SCMP_ACT_ERRNO", errnoRet: 95 }],
  });
  const bound = await start({ confinement: { seccomp } });
  expect(await bound("ln -s a b")).toMatch(/not supported/i);
  const free = await start({});
  expect(await free("ln -s a b; readlink b")).toBe("a");
});

test("paths are masked and made read-only beside the engine's own", async () => {
  const confinement = { masked_paths: ["/proc/version"], readonly_paths: ["/proc/uptime"] };
  const inside = await start({ confinement });
  expect(await inside("cat /proc/version | wc -c")).toBe("0");
  // As mountinfo has it: path, then options.
  expect(await inside("awk '$5 == \"/proc/uptime\" { print $6 }' /proc/self/mountinfo")).toMatch(/^ro,/);
  const engines = "awk '$5 ~ \"^/(proc|sys)/\" { print $5 }' /proc/self/mountinfo | sort -u";
  const own = (await (await start({}))(engines)).split("\n");
  const ours = (await inside(engines)).split("\n");
  expect(own.length).toBeGreaterThan(5);
  expect(ours).toEqual(expect.arrayContaining(own));
});

test("name servers, limits of the kernel and sizes are as chosen", async () => {
  const inside = await start({
    resources: { cpus: 1, memory_mb: 128, pids: 128, workspace_mb: 32, tmp_mb: 7, shm_mb: 3, workspace_inodes: 100 },
    confinement: {
      dns: { servers: ["192.0.2.1"], search: ["chorus.example"], options: ["ndots:3"] },
      ulimits: { nofile: 333, core: 0, msgqueue: 0 },
    },
  });
  expect(await inside("ulimit -Hn")).toBe("333");
  expect(await inside("df -k /tmp /dev/shm | awk 'NR > 1 { print $2 }'")).toBe("7168\n3072");
  const many =
    "cd /workspace; i=0; while : > f$i; do i=$((i+1)); [ $i -lt 500 ] || break; done 2>/dev/null; ls | wc -l";
  expect(Number(await inside(many))).toBeLessThan(100);
  const resolv = await inside("cat /etc/resolv.conf");
  for (const line of ["nameserver 192.0.2.1", "search chorus.example", "options ndots:3"])
    expect(resolv).toContain(line);
});

test("dev has the capabilities it was granted beside the guest's, and strict none of them", async () => {
  const effective = async (inside: (command: string) => Promise<string>) =>
    BigInt(`0x${await inside("awk '/^CapEff/ { print $2 }' /proc/self/status")}`);
  const bits = (...numbers: number[]) => numbers.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
  const confinement = { capabilities: ["SYS_CHROOT"] };
  // CHOWN 0, KILL 5, SETGID 6, SETUID 7, SYS_CHROOT 18.
  expect(await effective(await start({ profile: "dev", confinement }))).toBe(bits(0, 5, 6, 7, 18));
  expect(await effective(await start({ profile: "strict", confinement }))).toBe(0n);
});

test("what the engine cannot do is an error, and leaves nothing behind", async () => {
  const before = (await backend.list()).length;
  await expect(start({ runtime: "no-such-runtime" })).rejects.toMatchObject({
    message: expect.stringMatching(/no-such-runtime/),
  });
  expect(await backend.list()).toHaveLength(before);
});
