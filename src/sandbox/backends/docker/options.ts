import {
  type BackendLimits,
  type BackendSpec,
  type Confinement,
  memoryBudgetMb,
  overheadMb,
  type Resources,
} from "../../backend.ts";
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

export interface ContainerPlan {
  spec: BackendSpec;
  image: ImageFacts;
  guest: GuestMounts;
  installId: string;
}

/**
 * Tasks that commands cannot take: the guest has about 20 threads, and each server's bridge to it has 6. The engine's limit is
 * so much higher than that of commands, which is what was asked for.
 */
export const reservedTasks = 64;
const maxNproc = 32_768;
/** Every engine's to give, rootless ones included, and the built-in maximum of pids. */
const raisableNproc = 4_096;
/** What engines may hand out everywhere, rootless ones included: no more than 4096 is safe to ask for. */
const openFiles = 4_096;

/** What the guest needs in any sandbox. */
const guestCapabilities = ["CHOWN", "SETUID", "SETGID", "KILL"];
/** What `dev` has where nobody chose: enough for package managers, nothing that reaches beyond the container's own files and processes. */
const devCapabilities = ["DAC_OVERRIDE", "FOWNER", "FSETID"];

/** Body of the engine's create call for one sandbox. Nothing the image declares is left to take effect. */
export function containerOptions(plan: ContainerPlan) {
  const { spec, image } = plan;
  const { resources, confinement = {} } = spec;
  const strict = spec.profile === "strict";
  const tmpMb = resources.tmp_mb ?? overheadMb.tmp;
  const memory = memoryBudgetMb(resources) * mib;
  const granted = strict ? [] : (confinement.capabilities ?? devCapabilities);
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
      CapAdd: [...new Set([...guestCapabilities, ...granted])],
      SecurityOpt: securityOptions(confinement),
      ...hiddenPaths(confinement),
      ...dnsOptions(confinement),
      Memory: memory,
      MemorySwap: memory,
      NanoCpus: nanoCpus(resources.cpus),
      PidsLimit: resources.pids + reservedTasks,
      ShmSize: (resources.shm_mb ?? overheadMb.shm) * mib,
      Ulimits: ulimits(resources.pids, confinement),
      // No uid, gid or mode: Podman refuses them, and a folder of the image overrides them. The guest sets owners at start.
      Tmpfs: {
        ...volumeCovers(image.volumes),
        [paths.workdir]: `rw,exec,nosuid,nodev,size=${resources.workspace_mb}m${inodes(resources)}`,
        [paths.tmp]: `rw,exec,nosuid,nodev,size=${tmpMb}m${filesIn(resources, tmpMb)}`,
        ...sharedMemory(resources),
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
export function fillerOptions(image: ImageFacts, volume: string, installId: string) {
  return {
    ...neutralised(image),
    Image: image.image_id,
    Entrypoint: ["/nonexistent"],
    Labels: { [label.helper]: "guest-fill", [label.install]: installId },
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
    ...(limits.pids === undefined ? {} : { PidsLimit: limits.pids + reservedTasks }),
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

function securityOptions({ seccomp, apparmor, selinux }: Confinement): string[] {
  return [
    "no-new-privileges",
    ...(seccomp === undefined ? [] : [`seccomp=${seccomp}`]),
    ...(apparmor === undefined ? [] : [`apparmor=${apparmor}`]),
    ...(selinux ?? []).map((option) => `label=${option}`),
  ];
}

/** Lists given to an engine replace its own, so its own come along: those of every version so far. What a host lacks is passed over. */
function hiddenPaths({ masked_paths = [], readonly_paths = [] }: Confinement) {
  if (masked_paths.length + readonly_paths.length === 0) return {};
  return {
    MaskedPaths: [...new Set([...enginesMask, ...masked_paths])],
    ReadonlyPaths: [...new Set([...enginesProtect, ...readonly_paths])],
  };
}

/** What Moby masks and makes read-only by default (oci/defaults.go, up to 28). */
const enginesMask = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];
const enginesProtect = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

function dnsOptions({ dns }: Confinement) {
  return {
    ...(dns?.servers.length ? { Dns: [...dns.servers] } : {}),
    ...(dns?.search.length ? { DnsSearch: [...dns.search] } : {}),
    ...(dns?.options.length ? { DnsOptions: [...dns.options] } : {}),
  };
}

/** Empty files cost memory beside the size of their file system: where the workspace's are bounded, so are those of /tmp and /dev/shm. */
const filesPerMb = 256;
const filesIn = ({ workspace_inodes }: Resources, mb: number): string =>
  workspace_inodes === undefined ? "" : `,nr_inodes=${Math.ceil(mb * filesPerMb)}`;

/** The engine's own mount of it bounds the size alone. */
function sharedMemory(resources: Resources) {
  const mb = resources.shm_mb ?? overheadMb.shm;
  const files = filesIn(resources, mb);
  return files === "" ? {} : { "/dev/shm": `rw,noexec,nosuid,nodev,mode=1777,size=${mb}m${files}` };
}

const inodes = ({ workspace_inodes }: Resources): string =>
  workspace_inodes === undefined ? "" : `,nr_inodes=${workspace_inodes}`;

function ulimits(pids: number, { ulimits: chosen = {} }: Confinement) {
  const nproc = Math.min(maxNproc, pids);
  const all = { nofile: openFiles, core: 0, ...chosen, nproc };
  return Object.entries(all).map(([name, value]) => ({
    Name: name,
    Soft: value,
    // What an update may raise pids to; the guest lets nobody else raise the soft limit.
    Hard: name === "nproc" ? Math.max(value, raisableNproc) : value,
  }));
}
