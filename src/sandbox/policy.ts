import type { HostDir } from "./policy/host-dirs.ts";
import { normalPattern } from "./policy/images.ts";
import type { Capability, PolicyFile, Ulimits } from "./policy/schema.ts";

export { type PolicyFile, policyFileSchema } from "./policy/schema.ts";

/** Everything the operator decides, complete: `policy://effective` shows it as it is. */
export interface Policy {
  /** `built-in`, or the path of the operator's file. */
  source: string;
  /** Patterns over normalised references; see docs/policy.md. */
  images: string[];
  /** Pattern → digests its images may have; the first is taken where none is asked for. */
  image_digests: Record<string, string[]>;
  /** Nothing runs that is not named by digest, by the agent or by {@link image_digests}. */
  require_digest: boolean;
  /** Whether the user's Docker credentials are used to pull. */
  registry_credentials: boolean;
  /** In order of preference: the first one the engine names is used. Empty: the engine's default. */
  runtimes: string[];
  profiles: ("strict" | "dev")[];
  /** What can be had. Sandboxes have no network but their own loopback, whatever {@link egress} allows. */
  networks: ("none" | "allowlist" | "open")[];
  /** What the operator would allow once there is a way out; without effect until then. */
  egress: { networks: ("none" | "allowlist" | "open")[]; hosts: string[] };
  /** The most that CHORUS_SANDBOX_HOST_DIRS may open; null: that variable alone decides. */
  host_dirs_ceiling: HostDir[] | null;
  /** What `dev` has beyond what the guest itself needs. */
  capabilities: Capability[];
  security: Security;
  dns: { servers: string[]; search: string[]; options: string[] };
  /** Proxy variables of every command. */
  proxy: { http?: string; https?: string; all?: string; none?: string[] };
  ulimits: Ulimits & { nofile: number; core: number };
  /** Uids commands run as, each sandbox with one of its own. */
  users: { first: number; last: number };
  /** The same for every sandbox; agents cannot ask for other ones. */
  sizes: { tmp_mb: number; shm_mb: number; workspace_inodes?: number };
  defaults: PerSandbox;
  maxima: PerSandbox & {
    /** Live sandboxes of all server processes of the install together. */
    sandboxes: number;
    /** Share of the host's memory that all their memory budgets together may take. */
    memory_total_pct: number;
    /** The same as an amount; the smaller one counts. */
    memory_total_mb?: number;
    /** Warm sandboxes kept ready. */
    pool: number;
  };
}

export interface PerSandbox {
  ttl_s: number;
  idle_s: number;
  cpus: number;
  memory_mb: number;
  pids: number;
  workspace_mb: number;
}

export interface Security {
  /** Left out: the engine's default. */
  seccomp?: SeccompProfile;
  apparmor?: string;
  selinux?: string[];
  /** Beside those the engine masks or makes read-only by itself. */
  masked_paths: string[];
  readonly_paths: string[];
}

/** A profile as read at start-up, so that a later change of the file changes nothing that runs. */
export interface SeccompProfile {
  file: string;
  sha256: string;
  /** Compact JSON; left out where the policy is shown. */
  json?: string;
}

/** Smallest values that still make a working sandbox. */
export const minima = { ttl_s: 1, idle_s: 1, cpus: 0.05, memory_mb: 16, pids: 64, workspace_mb: 1 } as const;

const builtIn = {
  defaults: { ttl_s: 3600, idle_s: 900, cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
  maxima: { ttl_s: 86_400, idle_s: 86_400, memory_mb: 4096, pids: 4096, workspace_mb: 4096 },
  /** Enough for package managers, nothing that reaches beyond the container's own files and processes. */
  capabilities: ["DAC_OVERRIDE", "FOWNER", "FSETID"],
  /** What engines may hand out everywhere, rootless ones included: no more than 4096 files is safe to ask for. */
  ulimits: { nofile: 4096, core: 0 },
  users: { first: 20_000, last: 59_999 },
  sizes: { tmp_mb: 128, shm_mb: 64 },
} satisfies Partial<Record<string, unknown>> & { capabilities: Capability[] };

/** CONTRACT section 2, under the operator's file. `hostCpus` bounds cpus. */
export function effectivePolicy(file: PolicyFile, source: string, hostCpus: number, seccomp?: SeccompProfile): Policy {
  const maxima = {
    cpus: hostCpus,
    sandboxes: 50,
    memory_total_pct: 75,
    pool: 50,
    ...builtIn.maxima,
    ...defined(file.maxima),
  };
  const { apparmor, selinux, masked_paths = [], readonly_paths = [] } = file.security ?? {};
  return {
    source,
    images: normalPatterns(file.images ?? ["**"]),
    image_digests: normalPins(file.image_digests ?? {}),
    require_digest: file.require_digest ?? false,
    registry_credentials: file.registry_credentials ?? true,
    runtimes: file.runtimes ?? [],
    profiles: file.profiles ?? ["strict"],
    networks: ["none"],
    egress: { networks: file.networks ?? ["none"], hosts: file.network_hosts ?? [] },
    host_dirs_ceiling: file.host_dirs?.map(hostDir) ?? null,
    capabilities: file.capabilities ?? builtIn.capabilities,
    security: {
      ...(seccomp && { seccomp }),
      ...(apparmor !== undefined && { apparmor }),
      ...(selinux !== undefined && { selinux }),
      masked_paths,
      readonly_paths,
    },
    dns: { servers: [], search: [], options: [], ...defined(file.dns) },
    proxy: defined(file.proxy),
    ulimits: { ...builtIn.ulimits, ...defined(file.ulimits) },
    users: file.users ?? builtIn.users,
    sizes: { ...builtIn.sizes, ...defined(file.sizes) },
    // A built-in default above the operator's ceiling would refuse every plain create.
    defaults: { ...lowered(builtIn.defaults, maxima), ...defined(file.defaults) },
    maxima,
  };
}

/** What no schema of one key can see; each line names the keys that do not go together. */
export function contradictions(policy: Policy): string[] {
  const found: string[] = [];
  for (const [key, value] of Object.entries(policy.defaults)) {
    const most = policy.maxima[key as keyof PerSandbox]; // keys of PerSandbox are what defaults has
    if (value > most) found.push(`defaults.${key} = ${value}: must be at most maxima.${key}, ${most}`);
  }
  const uids = policy.users.last - policy.users.first + 1;
  if (uids < policy.maxima.sandboxes)
    found.push(`users = ${uids} uids: must be at least as many as maxima.sandboxes, ${policy.maxima.sandboxes}`);
  return found;
}

/** As agents and people may see it: a profile is told by its file and hash. */
export function shownPolicy(policy: Policy): Policy {
  const { seccomp } = policy.security;
  if (seccomp === undefined) return policy;
  const { file, sha256 } = seccomp;
  return { ...policy, security: { ...policy.security, seccomp: { file, sha256 } } };
}

function lowered(defaults: PerSandbox, maxima: PerSandbox): PerSandbox {
  const entries = Object.entries(defaults).map(([key, value]) => [
    key,
    Math.min(value, maxima[key as keyof PerSandbox]), // keys of PerSandbox are what defaults has
  ]);
  return Object.fromEntries(entries);
}

const hostDir = (text: string): HostDir => ({
  path: text.slice(0, -3),
  mode: text.endsWith(":rw") ? "rw" : "ro",
});

/** Only what is there, so that nothing that was left out covers a built-in value. */
function defined<T extends object>(part: T | undefined): { [key in keyof T]: Exclude<T[key], undefined> } {
  const entries = Object.entries(part ?? {}).filter(([, value]) => value !== undefined);
  // Its keys and values are T's, without the undefined ones.
  return Object.fromEntries(entries) as { [key in keyof T]: Exclude<T[key], undefined> };
}

const normalPatterns = (patterns: readonly string[]): string[] => patterns.map((text) => normalPattern(text) ?? text);

function normalPins(pins: Record<string, string | string[]>): Record<string, string[]> {
  const normal: Record<string, string[]> = {};
  for (const [pattern, digests] of Object.entries(pins)) {
    const key = normalPattern(pattern) ?? pattern;
    normal[key] = [...(normal[key] ?? []), ...(typeof digests === "string" ? [digests] : digests)];
  }
  return normal;
}
