import type { Duplex } from "node:stream";

/**
 * The port to whatever isolates: it creates, starts, limits, watches and removes sandboxes and hands over one byte stream
 * to the guest inside. It knows nothing of MCP, events or the store. Every method rejects with a SandboxError
 * (BACKEND_UNAVAILABLE when the engine cannot be reached: then nothing is known about any sandbox).
 */
export interface SandboxBackend extends AsyncDisposable {
  /** Short name shown in results: `docker`, `memory`. */
  readonly name: string;

  /** Who the engine is and what it has. Cheap after the first call. */
  engine(signal?: AbortSignal): Promise<EngineInfo>;

  /**
   * Finds the image on the engine or pulls it. IMAGE_NOT_FOUND, IMAGE_PULL_FAILED.
   * @param reference as asked for; normalised by the backend
   */
  resolveImage(reference: string, options?: ResolveImageOptions): Promise<ImageInfo>;

  /** Creates and starts. Rejects without leaving anything behind, as far as the engine still answers. */
  create(spec: BackendSpec, signal?: AbortSignal): Promise<void>;

  /**
   * Hash of all that the engine would be asked for, guest and options of the operator included, but for id and uid: sandboxes of
   * equal recipes are interchangeable until they are used.
   */
  recipe(spec: BackendSpec, signal?: AbortSignal): Promise<string>;

  /** Opens a stream to the guest. GUEST_UNAVAILABLE when the sandbox runs but its guest does not answer. */
  connect(sandboxId: string, signal?: AbortSignal): Promise<Duplex>;

  /** What the engine knows of one sandbox of this install; undefined when it has none of that id. */
  status(sandboxId: string, signal?: AbortSignal): Promise<BackendStatus | undefined>;

  /** All sandboxes of this install on this engine, shells and never-started ones included. */
  list(signal?: AbortSignal): Promise<BackendStatus[]>;

  /** Changes limits of a running sandbox. */
  update(sandboxId: string, limits: BackendLimits, signal?: AbortSignal): Promise<void>;

  /** Kills the sandbox and leaves its shell. Idempotent. */
  kill(sandboxId: string, signal?: AbortSignal): Promise<void>;

  /** Removes the sandbox or its shell, running or not. Idempotent. */
  remove(sandboxId: string, signal?: AbortSignal): Promise<void>;

  /** The last lines of the guest's flight recorder, oldest first, bounded; readable until the shell is removed. */
  lastWords(sandboxId: string, signal?: AbortSignal): Promise<string[]>;

  /**
   * Removes what this install left on the engine that serves no sandbox any more, from older versions and dead servers; bounded,
   * so that more may remain for the next call. Resolves with how many things went.
   */
  tidy(signal?: AbortSignal): Promise<number>;

  /**
   * Engine facts about sandboxes of this install until the signal aborts; reconnects by itself for ever and then yields
   * `reconnected`, after which the consumer compares with {@link list}, since facts may be missing.
   */
  watch(signal: AbortSignal): AsyncIterable<EngineFact>;
}

export interface EngineInfo {
  /** Stable identity of the engine; a store's records belong to one engine. */
  engine_id: string;
  /** Human words: `Docker 20.10.24 at unix:///var/run/docker.sock`. */
  description: string;
  version: string;
  /** Runtimes by name, the default first. */
  runtimes: string[];
  cpus: number;
  memory_bytes: number;
  /** Kernel security modules the engine confines with: `seccomp`, `apparmor`, `selinux`. Undefined: it did not say. */
  confines?: readonly string[];
  /** Limits this engine cannot enforce: `memory`, `cpus`, `pids`. */
  missing_limits?: readonly string[];
  /** Choices that do not reach a sandbox here, by the runtime's name. */
  ignored?: Readonly<Record<string, readonly Ignorable[]>>;
  /** Whether it can bound the number of files of a tmpfs. @default false */
  bounds_inodes?: boolean;
}

export type Ignorable =
  | "seccomp"
  | "apparmor"
  | "selinux"
  | "masked_paths"
  | "readonly_paths"
  | "workspace_inodes"
  | "dns";

export interface ResolveImageOptions {
  signal?: AbortSignal;
  /** Called with one readable line of progress, at most a few times a second. */
  onProgress?: (message: string) => void;
  /** Only looks whether it is there: IMAGE_NOT_FOUND instead of a pull. */
  local?: boolean;
}

export interface ImageInfo {
  /** Normalised reference: `docker.io/library/alpine:latest`. */
  image: string;
  /** `sha256:…` of the registry manifest, when the image came from one. */
  image_digest?: string;
  /** What the engine runs: content id of the image. */
  image_id: string;
  /** What the image declares for its programs and commands may get: without PATH, which the guest has, and without loader settings. */
  env?: Record<string, string>;
}

export type Profile = "strict" | "dev";

export type Resources = {
  cpus: number;
  memory_mb: number;
  pids: number;
  workspace_mb: number;
  /** @default 128 */
  tmp_mb?: number;
  /** @default 64 */
  shm_mb?: number;
  /** Most files and folders in the workspace. Left out: as many as fit. */
  workspace_inodes?: number;
};

/** The operator's choices beyond profile and limits. What is left out is the engine's default. */
export interface Confinement {
  /** Capabilities beside those the guest needs. */
  capabilities?: readonly string[];
  /** A seccomp profile, as JSON. */
  seccomp?: string;
  /** Name of an AppArmor profile loaded on the engine's host. */
  apparmor?: string;
  /** SELinux options: `type:container_t`. */
  selinux?: readonly string[];
  /** Beside those the engine masks or makes read-only by itself. */
  masked_paths?: readonly string[];
  readonly_paths?: readonly string[];
  dns?: { servers: readonly string[]; search: readonly string[]; options: readonly string[] };
  /** Limits of the kernel per process, by name. @default nofile 4096, core 0 */
  ulimits?: Readonly<Record<string, number>>;
}

export interface BackendSpec {
  sandbox_id: string;
  /** Content id to run, from {@link ImageInfo}. */
  image_id: string;
  profile: Profile;
  /** Name of a runtime of the engine; undefined means its default. */
  runtime?: string;
  resources: Resources;
  /** @default what the engine does by itself */
  confinement?: Confinement;
  network: "none";
  /** Uid and gid of commands, of this sandbox alone. 20000–59999 */
  uid: number;
  /** How long the guest lives until a server first extends its lease. */
  boot_lease_ms: number;
  /** Hash of the spec, kept as a label for the pool and for people. */
  spec_hash: string;
}

export interface BackendLimits {
  cpus?: number;
  /** Total ceiling is computed from this and the workspace's size. */
  memory_mb?: number;
  pids?: number;
  /** Needed with memory_mb: parts of the sum. */
  workspace_mb: number;
  tmp_mb?: number;
  shm_mb?: number;
}

export interface BackendStatus {
  sandbox_id: string;
  /** `created`: never started. `exited`: an empty shell. */
  state: "created" | "running" | "exited";
  exit_code?: number;
  /** Some process in it was killed for memory at some time, the last one or another. */
  oom_killed: boolean;
  created_at?: string;
  finished_at?: string;
  /** What the engine holds a running one to, where {@link SandboxBackend.status} was asked and the engine tells. */
  limits?: { memory_limit_mb: number; cpus?: number; pids?: number };
}

export type EngineFact =
  | { kind: "started"; sandbox_id: string }
  | { kind: "died"; sandbox_id: string; exit_code: number | null }
  | { kind: "oom"; sandbox_id: string }
  | { kind: "removed"; sandbox_id: string }
  | { kind: "reconnected" };

/** What a sandbox needs beyond what its agent asked for, MiB: /tmp, /dev/shm, and guest, bridges and spools. */
export const overheadMb = { tmp: 128, shm: 64, reserve: 96 } as const;

/** What of the resources is memory. */
export type MemoryParts = Pick<Resources, "memory_mb" | "workspace_mb" | "tmp_mb" | "shm_mb">;

/** The engine's memory limit for a sandbox in MiB: tmpfs and shm count as memory, so all of it is summed. */
export function memoryBudgetMb({ memory_mb, workspace_mb, tmp_mb, shm_mb }: MemoryParts): number {
  return memory_mb + workspace_mb + (tmp_mb ?? overheadMb.tmp) + (shm_mb ?? overheadMb.shm) + overheadMb.reserve;
}
