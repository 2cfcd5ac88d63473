import { createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { testEngineHost } from "../support/docker.ts";
import { startServer, type TestServer, throughTheEngine } from "../support/server.ts";
import { AttackImage, attackSandbox, removeAllMade, Unhardened } from "./support.ts";

/**
 * Ways out of a sandbox. Each is tried twice: in a `strict` sandbox, where the kernel has to refuse it, and in a container whose
 * walls were left out, where it has to work. The second half proves that the first one tests something.
 */

/**
 * Where an attack works: as `docker run` makes containers, with every
 * wall down that engines have, or on the host's network with the engine's socket.
 */
type Elsewhere = "plain" | "plain user" | "privileged" | "open";
type Row = [attack: string, works: Elsewhere, refusal?: RegExp, args?: () => string[]];

const denied = /^REFUSED (EPERM|EACCES)\b/;
const readOnly = /^REFUSED (EROFS|EPERM|EACCES)\b/;
const hidden = /^REFUSED (EROFS|EPERM|EACCES|ENOENT)\b/;

let image: AttackImage;
let server: TestServer;
let id: string;
let containers: Record<Elsewhere, { container: Unhardened; user?: string }>;
let listener: Server;
let targets: string[];

beforeAll(async () => {
  listener = createServer((socket) => socket.end()).listen(0, "0.0.0.0");
  await new Promise((resolve) => listener.once("listening", resolve));
  const address = listener.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const addresses = Object.values(networkInterfaces()).flatMap((all) =>
    (all ?? []).filter((at) => at.family === "IPv4"),
  );
  targets = ["127.0.0.1", ...addresses.map(({ address: at }) => at), "172.17.0.1", "169.254.169.254"].map(
    (host) => `${host}:${port}`,
  );
  image = await AttackImage.make();
  const socket = testEngineHost().replace(/^unix:\/\//, "");
  const [plain, privileged, open, started] = await Promise.all([
    Unhardened.start(image.name),
    Unhardened.start(image.name, wallsDown),
    Unhardened.start(image.name, { NetworkMode: "host", Binds: [`${socket}:/var/run/docker.sock`] }),
    startServer({ env: { CHORUS_SANDBOX_IMAGE: image.name }, prefix: throughTheEngine }),
  ]);
  // What the bridges are to a sandbox: a process of somebody else's.
  await Promise.all([plain, privileged].map((container) => container.begin(["connect"])));
  server = started;
  id = String((await server.ok("sandbox_create", { memory_mb: 128, workspace_mb: 32 }))["sandbox_id"]);
  containers = {
    plain: { container: plain },
    "plain user": { container: plain, user: "1234:1234" },
    privileged: { container: privileged },
    open: { container: open },
  };
});

afterAll(async () => {
  listener?.close();
  if (id) await server?.ok("sandbox_destroy", { sandbox_id: id });
  await server?.[Symbol.asyncDispose]();
  await removeAllMade();
});

/** All that `--privileged` does, but for the one capability that not every engine has to give. */
const wallsDown = {
  CapAdd: ["SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_TIME", "SYSLOG", "DAC_READ_SEARCH", "NET_ADMIN", "SYS_PTRACE"],
  SecurityOpt: ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
  MaskedPaths: [],
  ReadonlyPaths: [],
  Devices: [{ PathOnHost: "/dev/kmsg", PathInContainer: "/dev/kmsg", CgroupPermissions: "rwm" }],
};

const onOthers = [
  "signal",
  "ptrace",
  "prlimit",
  "mem",
  "vm-write",
  "root",
  "fds",
  "environ",
  "renice",
  "oom-score",
  "threads",
  "namespaces",
];
/** Engines keep this one from containers whatever their user is. */
const works = (way: string): Elsewhere => (way === "vm-write" ? "privileged" : "plain");

const groups: Record<string, Row[]> = {
  "PID 1": onOthers.map((way) => [`${way}-pid1`, works(way)]),
  "the bridges": onOthers.map((way) => [`${way}-bridge`, works(way)]),
  "mounts and devices": [
    ["mount-tmpfs", "privileged"],
    ["mount-proc", "privileged"],
    ["bind-root", "privileged"],
    ["remount-root", "privileged"],
    ["umount", "privileged"],
    ["mknod-disk", "plain"],
    ["kernel-memory", "privileged", hidden],
    ["chroot", "plain"],
    ["pivot-root", "privileged"],
    ["open-handle", "privileged"],
    ["root-file", "plain", hidden],
    ["guest-binary", "plain", hidden],
  ],
  namespaces: [
    ...["user", "mount", "net", "pid", "ipc", "uts"].map((kind): Row => [`unshare-${kind}`, "privileged"]),
    ["setns-self", "privileged"],
    ["hostname", "privileged"],
  ],
  "the kernel": [
    ["proc-sys", "privileged", readOnly],
    ["proc-root", "privileged", readOnly],
    ["sys", "privileged", readOnly],
    ["cgroup-procs", "privileged", readOnly],
    ["cgroup-limits", "privileged", readOnly],
    ["release-agent", "privileged"],
    ["bpf", "privileged"],
    ["perf-kernel", "privileged"],
    ["clock", "privileged"],
    ["kernel-log", "privileged"],
    ["session-keyring", "privileged"],
    ["file-lease", "plain"],
  ],
  "rights to be had": [
    ["setuid-binary", "plain user"],
    ["caps-binary", "plain user"],
    ["own-setuid", "plain"],
    ["setuid-0", "plain"],
    ["setgid-0", "plain"],
    ["setgroups", "plain"],
    ["chown", "plain"],
    ["root-secret", "plain"],
  ],
  "the network": [
    ["tcp", "open", /^REFUSED (ENETUNREACH|ECONNREFUSED)\b/, () => targets],
    ["interfaces", "open", /^REFUSED ENETUNREACH\b/],
    ["raw-socket", "plain"],
    ["packet-socket", "plain"],
    ["odd-socket", "privileged", /^REFUSED EAFNOSUPPORT\b/],
    ["engine-socket", "open", /^REFUSED (ENOENT|EACCES|ECONNREFUSED)\b/],
  ],
  "the guest's socket": [
    ["guest-connect", "plain"],
    ["guest-unlink", "plain"],
    ["guest-folder", "plain", readOnly],
    ["guest-takeover", "plain"],
  ],
};

describe.each(Object.entries(groups))("%s", (_group, rows) => {
  it.each(rows)("%s", async (attack, works, refusal = denied, args = () => []) => {
    const { container, user } = containers[works];
    const [inside, elsewhere] = await Promise.all([
      attackSandbox(server, id, [attack, ...args()]),
      container.run([attack, ...args()], user),
    ]);
    expect(elsewhere, "where the walls are left out").toMatchObject({ code: 0, said: expect.stringMatching(/BREACH/) });
    expect(inside.code, `in the sandbox: ${inside.said}`).toBe(1);
    expect(
      inside.said.split("\n").filter((line) => !refusal.test(line)),
      "every way refused as it should be",
    ).toEqual([]);
  });
});

it("after all of it the sandbox works as before", async () => {
  expect(await server.ok("exec_run", { sandbox_id: id, command: "echo here" })).toMatchObject({ stdout: "here\n" });
  expect(await server.ok("sandbox_get", { sandbox_id: id })).toMatchObject({ state: "running", running_execs: 0 });
});
