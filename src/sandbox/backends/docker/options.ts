import { type BackendLimits, type BackendSpec, memoryBudgetMb, overheadMb } from "../../backend.ts";
import { type ImageFacts, neutralised, volumeCovers } from "./image-guard.ts";
import { contractVersion, label } from "./labels.ts";
import { guestMount, guestPath, paths } from "./layout.ts";

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

/** Tasks that commands cannot take: the guest, its threads and its bridges keep room to breathe under a fork bomb. */
const reservedTasks = 32;
const maxNproc = 32_768;
/** What engines may hand out everywhere, rootless ones included: no more than 4096 is safe to ask for. */
const openFiles = 4_096;

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
