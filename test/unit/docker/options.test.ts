import { describe, expect, test } from "vitest";
import { memoryBudgetMb } from "../../../src/sandbox/backend.ts";
import { accountEntries, accountFiles, accountName } from "../../../src/sandbox/backends/docker/accounts.ts";
import {
  commandEnv,
  guestEnv,
  type ImageFacts,
  volumeCovers,
} from "../../../src/sandbox/backends/docker/image-guard.ts";
import {
  type ContainerPlan,
  containerOptions,
  fillerOptions,
  updateOptions,
} from "../../../src/sandbox/backends/docker/options.ts";
import { testSpec } from "../../support/docker.ts";

const plain: ImageFacts = { image_id: "sha256:abc", arch: "amd64", env: [], volumes: [] };
const hostile: ImageFacts = {
  image_id: "sha256:bad",
  arch: "amd64",
  env: [
    "PATH=/evil:relative:",
    "LD_PRELOAD=/evil.so",
    "GODEBUG=http2debug=2",
    "GOTRACEBACK=crash",
    "HOME=/evil",
    "NOVALUE",
    "A=b=c",
    "=odd",
  ],
  volumes: ["/data", "/tmp", "/workspace/", "/var//lib/x/../y/"],
};
const resources = { cpus: 1.5, memory_mb: 512, pids: 256, workspace_mb: 300 };
const plan = (change: Partial<ContainerPlan> = {}): ContainerPlan => ({
  spec: testSpec("sha256:abc", { resources, uid: 20_251, spec_hash: "hash" }),
  image: plain,
  guest: { volume: "chorus-guest-x-amd64", accounts: { passwd: "/v/passwd-1", group: "/v/group-1" } },
  installId: "mine",
  ...change,
});

describe("a strict sandbox", () => {
  const options = containerOptions(plan());
  const host = options.HostConfig;

  test("runs the guest as PID 1, with the spec on its command line", () => {
    const { spec } = plan();
    expect(options.Entrypoint.slice(0, 2)).toEqual(["/.chorus/guest", "serve"]);
    expect(options.Entrypoint.join(" ")).toContain(
      "--uid 20251 --workdir /workspace --tmp /tmp --run /run/chorus --boot-lease-ms 60000 --profile strict",
    );
    expect(options.Entrypoint).toHaveLength(2 + 14);
    expect(spec.sandbox_id).toMatch(/^sb_/);
    expect(options.Cmd).toEqual([]);
    expect(options.User).toBe("0:0");
    expect(options.WorkingDir).toBe("/");
  });

  test("keeps the guest's four capabilities and no more, and can gain none", () => {
    expect(host.CapDrop).toEqual(["ALL"]);
    expect(host.CapAdd).toEqual(["CHOWN", "SETUID", "SETGID", "KILL"]);
    expect(host.SecurityOpt).toEqual(["no-new-privileges"]);
    expect(host.Privileged).toBe(false);
  });

  test("has a read-only root, no network, and namespaces of its own", () => {
    expect(host.ReadonlyRootfs).toBe(true);
    expect(host.NetworkMode).toBe("none");
    expect(host.IpcMode).toBe("private");
    expect(host.CgroupnsMode).toBe("private");
    expect(host.PidMode).toBe("");
  });

  test("is limited in memory without swap, cpu, tasks, open files, cores and shared memory", () => {
    const memory = memoryBudgetMb(resources) * 1024 * 1024;
    expect(host).toMatchObject({
      Memory: memory,
      MemorySwap: memory,
      NanoCpus: 1_500_000_000,
      PidsLimit: 256 + 64,
      ShmSize: 64 * 1024 * 1024,
    });
    expect(host.Ulimits).toEqual([
      { Name: "nofile", Soft: 4096, Hard: 4096 },
      { Name: "core", Soft: 0, Hard: 0 },
      { Name: "nproc", Soft: 256, Hard: 4096 },
    ]);
  });

  test.each([
    [16, 16],
    [4096, 4096],
    [100_000, 32_768],
  ])("of %i processes, commands get %i, and the guest has its own beside them", (pids, nproc) => {
    const { HostConfig } = containerOptions(
      plan({ spec: testSpec("sha256:abc", { resources: { ...resources, pids } }) }),
    );
    expect(HostConfig.Ulimits).toContainEqual({ Name: "nproc", Soft: nproc, Hard: Math.max(nproc, 4096) });
    expect(HostConfig.PidsLimit).toBe(pids + 64);
  });

  test("writes to bounded tmpfs only, without options Podman refuses", () => {
    expect(host.Tmpfs).toEqual({
      "/workspace": "rw,exec,nosuid,nodev,size=300m",
      "/tmp": "rw,exec,nosuid,nodev,size=128m",
      "/run/chorus": "rw,noexec,nosuid,nodev,size=96m",
    });
  });

  test("gets the guest and its account, read-only", () => {
    expect(host.Mounts).toEqual([
      {
        Type: "volume",
        Source: "chorus-guest-x-amd64",
        Target: "/.chorus",
        ReadOnly: true,
        VolumeOptions: { NoCopy: true },
      },
      { Type: "bind", Source: "/v/passwd-1", Target: "/etc/passwd", ReadOnly: true },
      { Type: "bind", Source: "/v/group-1", Target: "/etc/group", ReadOnly: true },
    ]);
    expect(containerOptions(plan({ guest: { volume: "v" } })).HostConfig.Mounts).toHaveLength(1);
  });

  test("is never restarted, removed or given an init by the engine, and its recorder is bounded", () => {
    expect(host).toMatchObject({ AutoRemove: false, Init: false, RestartPolicy: { Name: "no" }, OomScoreAdj: 0 });
    expect(host.LogConfig).toEqual({ Type: "json-file", Config: { "max-size": "512k", "max-file": "2" } });
  });

  test("leaves masked paths and the runtime to the engine, unless a runtime is asked for", () => {
    expect(host).not.toHaveProperty("MaskedPaths");
    expect(host).not.toHaveProperty("ReadonlyPaths");
    expect(host).not.toHaveProperty("Runtime");
    const spec = testSpec("sha256:abc", { runtime: "runsc" });
    expect(containerOptions(plan({ spec })).HostConfig).toHaveProperty("Runtime", "runsc");
  });

  test("says whose it is", () => {
    const made = plan();
    expect(containerOptions(made).Labels).toEqual({
      "dev.chorus.sandbox.install": "mine",
      "dev.chorus.sandbox.id": made.spec.sandbox_id,
      "dev.chorus.sandbox.spec": "hash",
      "dev.chorus.sandbox.contract": "1",
    });
  });

  test("takes seccomp, AppArmor and SELinux from the policy", () => {
    const confinement = { seccomp: '{"defaultAction":"SCMP_ACT_ERRNO"}', apparmor: "chorus", selinux: ["type:x_t"] };
    const spec = testSpec("sha256:abc", { confinement });
    expect(containerOptions(plan({ spec })).HostConfig.SecurityOpt).toEqual([
      "no-new-privileges",
      'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}',
      "apparmor=chorus",
      "label=type:x_t",
    ]);
  });
});

describe("what a hostile image declares", () => {
  const fromPlain = containerOptions(plan());
  const fromHostile = containerOptions(plan({ image: hostile, spec: testSpec("sha256:bad", { resources }) }));

  test("changes nothing but the image, the environment's names and the covered volumes", () => {
    const { Env: _a, Image: _b, Labels: _c, Entrypoint: _d, HostConfig: a, ...restOfPlain } = fromPlain;
    const { Env: _e, Image: _f, Labels: _g, Entrypoint: _h, HostConfig: b, ...restOfHostile } = fromHostile;
    expect(restOfHostile).toEqual(restOfPlain);
    expect({ ...b, Tmpfs: undefined }).toEqual({ ...a, Tmpfs: undefined });
    expect(b.Tmpfs).toMatchObject(a.Tmpfs);
  });

  test("has no healthcheck and no stop signal of its own", () => {
    expect(fromHostile.Healthcheck).toEqual({ Test: ["NONE"] });
    expect(fromHostile.StopSignal).toBe("SIGTERM");
  });

  test("reaches PID 1's environment as empty names; of PATH the absolute folders pass", () => {
    expect(guestEnv(hostile.env)).toEqual([
      "LD_PRELOAD=",
      "GODEBUG=",
      "GOTRACEBACK=",
      "HOME=/",
      "NOVALUE=",
      "A=",
      "PATH=/evil",
    ]);
  });

  test.each([[[]], [["PATH="]], [["PATH=.:bin"]], [["PATH=/a\nb"]], [[`PATH=/${"x".repeat(5000)}`]]])(
    "%j gives the usual PATH",
    (env) => {
      expect(guestEnv(env)).toContain("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    },
  );

  test("its volumes become empty read-only mounts, except where a sandbox has its own", () => {
    const cover = "ro,noexec,nosuid,nodev,size=4k";
    expect(volumeCovers(hostile.volumes)).toEqual({ "/data": cover, "/var/lib/y": cover });
    expect(fillerOptions(hostile, "v", "i").HostConfig.Tmpfs).toEqual({ "/data": cover, "/var/lib/y": cover });
  });

  test.each([
    "/",
    "//",
    "relative",
    "/proc",
    "/proc/1",
    "/sys/fs",
    "/dev",
    "/.chorus/guest",
    "/run/chorus/x",
    "/a/../..",
  ])("a volume at %s is refused", (path) => {
    expect(() => volumeCovers([path])).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

test("capabilities, hidden paths, name servers and limits of the policy reach the engine; strict takes no capability", () => {
  const confinement = {
    capabilities: ["NET_RAW", "CHOWN"],
    masked_paths: ["/proc/version", "/proc/kcore"],
    dns: { servers: ["192.0.2.1"], search: [], options: ["ndots:2"] },
    ulimits: { nofile: 99, nproc: 1, stack: 7 },
  };
  const host = (profile: "strict" | "dev") =>
    containerOptions(plan({ spec: testSpec("sha256:abc", { profile, confinement, resources }) })).HostConfig;
  expect(host("strict").CapAdd).toEqual(["CHOWN", "SETUID", "SETGID", "KILL"]);
  expect(host("dev").CapAdd).toEqual(["CHOWN", "SETUID", "SETGID", "KILL", "NET_RAW"]);
  const strict = host("strict");
  expect(strict).toMatchObject({ Dns: ["192.0.2.1"], DnsOptions: ["ndots:2"] });
  expect(strict).not.toHaveProperty("DnsSearch");
  expect(strict).toMatchObject({
    MaskedPaths: expect.arrayContaining(["/proc/version", "/proc/kcore", "/sys/firmware"]),
    ReadonlyPaths: expect.arrayContaining(["/proc/sys"]),
  });
  // The tasks are the pids limit's to give, whatever a policy might say.
  expect(strict.Ulimits).toEqual([
    { Name: "nofile", Soft: 99, Hard: 99 },
    { Name: "core", Soft: 0, Hard: 0 },
    { Name: "nproc", Soft: 256, Hard: 4096 },
    { Name: "stack", Soft: 7, Hard: 7 },
  ]);
});

test("a dev sandbox has a writable root and a short list of capabilities, and is otherwise strict", () => {
  const { HostConfig: host } = containerOptions(plan({ spec: testSpec("sha256:abc", { profile: "dev" }) }));
  expect(host.ReadonlyRootfs).toBe(false);
  expect(host.CapAdd).toEqual(["CHOWN", "SETUID", "SETGID", "KILL", "DAC_OVERRIDE", "FOWNER", "FSETID"]);
  expect(host).toMatchObject({
    CapDrop: ["ALL"],
    NetworkMode: "none",
    SecurityOpt: ["no-new-privileges"],
    Privileged: false,
  });
  expect(host.Mounts).toHaveLength(1);
});

describe("what an image declares for its programs", () => {
  test("reaches the commands, but for what the guest sets and what steers the loader", () => {
    const declared = [
      "JAVA_HOME=/opt/java",
      "A=b=c",
      "PATH=/evil",
      "HOME=/root",
      "LD_PRELOAD=/evil.so",
      "=x",
      "no-name",
      "1A=x",
    ];
    expect(commandEnv(declared)).toEqual({ JAVA_HOME: "/opt/java", A: "b=c" });
  });

  test("is bounded", () => {
    const many = Array.from({ length: 1_000 }, (_, i) => `V${i}=${"x".repeat(1_000)}`);
    expect(JSON.stringify(commandEnv(many)).length).toBeLessThan(80_000);
  });
});

describe("changed limits", () => {
  test("bring swap along with memory, and the whole budget", () => {
    const memory = memoryBudgetMb({ memory_mb: 256, workspace_mb: 32 }) * 1024 * 1024;
    expect(updateOptions({ memory_mb: 256, workspace_mb: 32 })).toEqual({ Memory: memory, MemorySwap: memory });
  });

  test("name only what changes", () => {
    expect(updateOptions({ cpus: 0.5, pids: 64, workspace_mb: 32 })).toEqual({
      NanoCpus: 500_000_000,
      PidsLimit: 64 + 64,
    });
    expect(updateOptions({ workspace_mb: 32 })).toEqual({});
  });
});

describe("accounts", () => {
  const entries = new Map(
    accountEntries("/workspace").map(({ name, content }) => [name, content?.toString("utf8") ?? ""]),
  );

  test.each([20_000, 20_249, 20_250, 43_210, 59_999])("uid %i has one entry and one group in its files", (uid) => {
    const files = accountFiles(uid);
    const passwd = entries.get(files?.passwd ?? "")?.split("\n") ?? [];
    const group = entries.get(files?.group ?? "")?.split("\n") ?? [];
    expect(passwd.filter((line) => line.split(":")[2] === String(uid))).toEqual([
      `${accountName(uid)}:x:${uid}:${uid}::/workspace:/bin/sh`,
    ]);
    expect(group.filter((line) => line.split(":")[2] === String(uid))).toEqual([`${accountName(uid)}:x:${uid}:`]);
    expect(passwd[0]).toBe("root:x:0:0:root:/root:/usr/sbin/nologin");
  });

  test.each([0, 1000, 19_999, 60_000, 20_000.5])("uid %d is no sandbox's", (uid) => {
    expect(accountFiles(uid)).toBeUndefined();
  });
});
