import { posix } from "node:path";
import { SandboxError } from "../../../errors.ts";
import { type BackendLimits, type BackendSpec, memoryBudgetMb, overheadMb } from "../../backend.ts";
import { contractVersion, label } from "./labels.ts";

/** What the image declares and a sandbox must not be changed by. */
export interface ImageFacts {
  image_id: string;
  arch: GuestArch;
  /** `NAME=value` lines. */
  env: readonly string[];
  /** Paths for which the engine would make a volume of its own. */
  volumes: readonly string[];
}

export type GuestArch = "amd64" | "arm64";

/** What is mounted into every sandbox. */
export interface GuestMounts {
  /** Volume with the guest binary. */
  volume: string;
  /** Folder of {@link volume} on the engine's host; undefined where the engine does not let it be mounted from. */
  accounts?: { passwd: string; group: string };
}

/** The operator's choices from the policy; what is left out is the engine's default. */
export interface SecurityChoices {
  /** A seccomp profile, as JSON. */
  seccomp?: string;
  /** Name of an AppArmor profile loaded on the engine's host. */
  apparmor?: string;
  /** SELinux options: `type:container_t`. */
  selinux?: readonly string[];
}

export interface ContainerPlan {
  spec: BackendSpec;
  image: ImageFacts;
  guest: GuestMounts;
  installId: string;
  security?: SecurityChoices;
}

export const guestMount = "/.chorus";
export const guestPath = `${guestMount}/guest`;
export const paths = { workdir: "/workspace", tmp: "/tmp", run: "/run/chorus" } as const;

/** Tasks that commands cannot take: the guest, its threads and its bridges keep room to breathe under a fork bomb. */
const reservedTasks = 32;
const maxNproc = 32_768;
/** What engines may hand out everywhere, rootless ones included: no more than 4096 is safe to ask for. */
const openFiles = 4_096;
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const capabilities = {
  strict: ["CHOWN", "SETUID", "SETGID", "KILL"],
  /** Enough for package managers, nothing that reaches beyond the container's own files and processes. */
  dev: ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL"],
} as const;

/** Body of the engine's create call for one sandbox. Nothing the image declares is left to take effect. */
export function containerOptions(plan: ContainerPlan) {
  const { spec, image } = plan;
  const strict = spec.profile === "strict";
  const memory = memoryBudgetMb(spec.resources) * mib;
  return {
    ...neutralised(image),
    Image: image.image_id,
    Hostname: "sandbox",
    Entrypoint: [guestPath, ...serveArguments(spec)],
    Labels: {
      [label.install]: plan.installId,
      [label.id]: spec.sandbox_id,
      [label.spec]: spec.spec_hash,
      [label.contract]: contractVersion,
    },
    Tty: false,
    OpenStdin: false,
    HostConfig: {
      NetworkMode: spec.network,
      IpcMode: "private",
      CgroupnsMode: "private",
      PidMode: "",
      Privileged: false,
      ReadonlyRootfs: strict,
      CapDrop: ["ALL"],
      CapAdd: [...capabilities[spec.profile]],
      SecurityOpt: securityOptions(plan.security),
      Memory: memory,
      MemorySwap: memory,
      NanoCpus: nanoCpus(spec.resources.cpus),
      PidsLimit: spec.resources.pids,
      ShmSize: overheadMb.shm * mib,
      Ulimits: ulimits(spec.resources.pids),
      // No uid, gid or mode: Podman refuses them, and a folder of the image overrides them. The guest sets owners at start.
      Tmpfs: {
        ...volumeCovers(image.volumes),
        [paths.workdir]: `rw,exec,nosuid,nodev,size=${spec.resources.workspace_mb}m`,
        [paths.tmp]: `rw,exec,nosuid,nodev,size=${overheadMb.tmp}m`,
        [paths.run]: `rw,noexec,nosuid,nodev,size=${overheadMb.reserve}m`,
      },
      Mounts: [
        {
          Type: "volume",
          Source: plan.guest.volume,
          Target: guestMount,
          ReadOnly: true,
          VolumeOptions: { NoCopy: true },
        },
        ...(strict ? accountMounts(plan.guest) : []),
      ],
      // The flight recorder. Two files, since an engine that keeps one forgets all of it when it is full.
      LogConfig: { Type: "json-file", Config: { "max-size": "512k", "max-file": "2" } },
      Init: false,
      AutoRemove: false,
      RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
      // The guest raises its children to 1000, so that they go first.
      OomScoreAdj: 0,
      ...(spec.runtime === undefined ? {} : { Runtime: spec.runtime }),
    },
  };
}

/** A container that is never started, through which the guest's volume is filled. */
export function fillerOptions(image: ImageFacts, volume: string) {
  return {
    ...neutralised(image),
    Image: image.image_id,
    Entrypoint: ["/nonexistent"],
    Labels: { [label.helper]: "guest-fill" },
    HostConfig: {
      NetworkMode: "none",
      CapDrop: ["ALL"],
      Tmpfs: volumeCovers(image.volumes),
      Mounts: [{ Type: "volume", Source: volume, Target: guestMount, VolumeOptions: { NoCopy: true } }],
    },
  };
}

/** Body of the engine's update call. Swap goes with memory, or the engine refuses. */
export function updateOptions(limits: BackendLimits) {
  const memory =
    limits.memory_mb === undefined ? undefined : memoryBudgetMb({ ...limits, memory_mb: limits.memory_mb }) * mib;
  return {
    ...(memory === undefined ? {} : { Memory: memory, MemorySwap: memory }),
    ...(limits.cpus === undefined ? {} : { NanoCpus: nanoCpus(limits.cpus) }),
    ...(limits.pids === undefined ? {} : { PidsLimit: limits.pids }),
  };
}

const mib = 1024 * 1024;
const nanoCpus = (cpus: number): number => Math.round(cpus * 1e9);

/** Every field of an image's configuration that reaches a container, with our value. */
function neutralised(image: ImageFacts) {
  return {
    Cmd: [],
    User: "0:0",
    WorkingDir: "/",
    Env: guestEnv(image.env),
    Healthcheck: { Test: ["NONE"] },
    StopSignal: "SIGTERM",
  };
}

function serveArguments({ sandbox_id, uid, boot_lease_ms, profile }: BackendSpec): string[] {
  // biome-ignore format: one flag a line reads best
  return [
    "serve",
    "--sandbox-id", sandbox_id,
    "--uid", String(uid),
    "--workdir", paths.workdir,
    "--tmp", paths.tmp,
    "--run", paths.run,
    "--boot-lease-ms", String(boot_lease_ms),
    "--profile", profile,
  ];
}

/**
 * PID 1's environment. The engine adds whatever the image declares and the call does not name, so every name the image
 * declares is named here, empty. Of its values only PATH passes, since commands need it to find the image's programs.
 */
export function guestEnv(imageEnv: readonly string[]): string[] {
  const env = new Map<string, string>();
  let path = defaultPath;
  for (const line of imageEnv) {
    const split = line.indexOf("=");
    const name = split < 0 ? line : line.slice(0, split);
    if (name === "") continue;
    if (name === "PATH") path = sanePath(line.slice(split + 1));
    else env.set(name, "");
  }
  env.set("PATH", path);
  env.set("HOME", "/");
  return [...env].map(([name, value]) => `${name}=${value}`);
}

/** Absolute folders of a search path; the default when nothing useful is left. */
function sanePath(value: string): string {
  const folders = value
    .split(":")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being kept out
    .filter((folder) => folder.startsWith("/") && !/[\u0000-\u001f\u007f]/.test(folder));
  const path = [...new Set(folders)].join(":");
  return path === "" || path.length > 4096 ? defaultPath : path;
}

/**
 * A mount for each path the image declares a volume at, since the engine would else make a writable volume on its disk.
 * Empty and read-only, like the rest of the root: the places to write are the workdir and /tmp.
 */
export function volumeCovers(volumes: readonly string[]): Record<string, string> {
  const ours: string[] = [guestMount, ...Object.values(paths)];
  const covers: Record<string, string> = {};
  for (const declared of volumes) {
    const path = posix
      .normalize(declared)
      .replace(/(.)\/+$/, "$1")
      .replace(/^\/+/, "/");
    if (
      !path.startsWith("/") ||
      reserved.some((root) => path === root || (root !== "/" && path.startsWith(`${root}/`)))
    ) {
      throw new SandboxError(
        "INVALID_ARGUMENT",
        `The image declares a volume at ${JSON.stringify(declared.slice(0, 200))}, where a sandbox cannot have one.`,
        {
          next: "Use an image without this VOLUME, or leave `image` out to use the default image.",
        },
      );
    }
    if (!ours.includes(path)) covers[path] = "ro,noexec,nosuid,nodev,size=4k";
  }
  return covers;
}

/** Where a mount would replace the root itself, what the kernel shows, or the guest's own files. */
const reserved = ["/", "/proc", "/sys", "/dev", guestPath, paths.run];

function accountMounts({ accounts }: GuestMounts) {
  if (accounts === undefined) return [];
  return [
    { Type: "bind", Source: accounts.passwd, Target: "/etc/passwd", ReadOnly: true },
    { Type: "bind", Source: accounts.group, Target: "/etc/group", ReadOnly: true },
  ];
}

function securityOptions({ seccomp, apparmor, selinux }: SecurityChoices = {}): string[] {
  return [
    "no-new-privileges",
    ...(seccomp === undefined ? [] : [`seccomp=${seccomp}`]),
    ...(apparmor === undefined ? [] : [`apparmor=${apparmor}`]),
    ...(selinux ?? []).map((option) => `label=${option}`),
  ];
}

function ulimits(pids: number) {
  const nproc = Math.max(1, Math.min(maxNproc, pids - Math.min(reservedTasks, Math.floor(pids / 2))));
  return [
    { Name: "nofile", Soft: openFiles, Hard: openFiles },
    { Name: "nproc", Soft: nproc, Hard: nproc },
    { Name: "core", Soft: 0, Hard: 0 },
  ];
}
