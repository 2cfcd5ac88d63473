import { createHash } from "node:crypto";
import { quoted, SandboxError } from "../errors.ts";
import type { CreateRequest } from "./api.ts";
import { type MemoryParts, memoryBudgetMb } from "./backend.ts";
import { confinementOf, proxyEnv, type SandboxSpec } from "./confinement.ts";
import { admitImage } from "./policy/admit-image.ts";
import { operator, PolicyDenied } from "./policy/denied.ts";
import { minima, type Policy } from "./policy.ts";

/** Pure decisions: may this be, and what exactly is it then. */

export type { SandboxSpec } from "./confinement.ts";
export { PolicyDenied } from "./policy/denied.ts";

const bounded = ["ttl_s", "idle_s", "cpus", "memory_mb", "pids", "workspace_mb"] as const;
type Bounded = (typeof bounded)[number];

/** The spec that a request means under a policy. POLICY_DENIED beyond the ceiling, INVALID_ARGUMENT below what works. */
export function admit(request: CreateRequest, policy: Policy, defaultImage: string): SandboxSpec {
  const image = admitImage(request.image ?? defaultImage, policy);
  const profile = request.profile ?? "strict";
  if (!policy.profiles.includes(profile)) {
    throw new PolicyDenied(
      "profiles",
      "profile",
      profile,
      policy.profiles,
      `The policy does not allow the profile "${profile}".`,
      `Use profile ${policy.profiles.join(" or ")}, or ${operator(policy, `add "${profile}" to profiles`)}.`,
    );
  }
  const network = request.network ?? "none";
  if (network !== "none" || (request.allow?.length ?? 0) > 0) {
    throw new PolicyDenied(
      "networks",
      "network",
      request.allow?.length ? { mode: network, allow: request.allow } : network,
      policy.networks,
      `A sandbox here has no network but its own 127.0.0.1; "${network === "none" ? "allow" : network}" cannot be had, whatever the policy says.`,
      "Leave `network` and `allow` out. Bring what is needed with file_write, or use an image that has it.",
    );
  }
  checkLabels(request.labels ?? {});
  checkEnv(request.env ?? {});
  const value = (key: Bounded): number => checkBound(key, request[key] ?? policy.defaults[key], policy);
  return {
    image,
    profile,
    network: { mode: "none" },
    resources: {
      cpus: value("cpus"),
      memory_mb: value("memory_mb"),
      pids: value("pids"),
      workspace_mb: value("workspace_mb"),
      ...policy.sizes,
    },
    ttl_s: value("ttl_s"),
    idle_s: value("idle_s"),
    confinement: confinementOf(policy, profile),
    env: proxyEnv(policy),
    runtimes: policy.runtimes,
  };
}

const mostLabels = 64;
const mostLabelBytes = 8 * 1024;
const mostEnvKeys = 256;
const mostEnvKeyLength = 128;

/** Labels stand in every event, so all of them together are small. */
export function checkLabels(labels: Record<string, string>): void {
  const count = Object.keys(labels).length;
  const bytes = Buffer.byteLength(JSON.stringify(labels));
  if (count <= mostLabels && bytes <= mostLabelBytes) return;
  throw new SandboxError(
    "INVALID_ARGUMENT",
    `labels: ${count} of ${bytes} bytes together; at most ${mostLabels} of ${mostLabelBytes} bytes are kept.`,
  );
}

/** The keys of an env stand in the record and in events; the guest bounds the values. */
export function checkEnv(env: Record<string, string | null>): void {
  const keys = Object.keys(env);
  const wrong = keys.find((key) => key === "" || key.length > mostEnvKeyLength || /[=\0]/.test(key));
  if (keys.length <= mostEnvKeys && wrong === undefined) return;
  throw new SandboxError(
    "INVALID_ARGUMENT",
    wrong === undefined
      ? `env: ${keys.length} variables; at most ${mostEnvKeys} are taken.`
      : `env: ${quoted(wrong, 60)} is no name of a variable (1–${mostEnvKeyLength} characters without "=").`,
  );
}

/** One limit against floor and ceiling. */
export function checkBound(key: Bounded, value: number, policy: Policy): number {
  if (value < minima[key]) {
    throw new SandboxError("INVALID_ARGUMENT", `${key} ${value} is below the smallest that works, ${minima[key]}.`);
  }
  const max = policy.maxima[key];
  if (value > max) {
    throw new PolicyDenied(
      `maxima.${key}`,
      key,
      value,
      max,
      `${key} ${value} is above the most the policy allows, ${max}.`,
      `Ask for at most ${max}, or ${operator(policy, `raise maxima.${key}`)}.`,
    );
  }
  return value;
}

/** What takes memory on the host. */
export interface Occupant {
  resources: MemoryParts;
  growing_to_mb?: number | undefined;
}

/** A live sandbox, of any tenant. */
export interface LiveOccupant extends Occupant {
  sandbox_id: string;
  tenant: string;
  name?: string | undefined;
  last_used_at: string;
}

/** Why one more does not fit beside those that are there; undefined when it does. */
export function lackOfRoom(
  wanted: MemoryParts,
  present: readonly Occupant[],
  policy: Policy,
  hostMemoryBytes: number,
): string | undefined {
  const most = policy.maxima.sandboxes;
  if (present.length + 1 > most) return `${present.length} sandboxes are live and the policy allows ${most} at once.`;
  const limitMb = memoryLimitMb(policy, hostMemoryBytes);
  const usedMb = present.reduce((sum, occupant) => sum + takenMb(occupant), 0);
  const wantedMb = memoryBudgetMb(wanted);
  if (usedMb + wantedMb <= limitMb) return undefined;
  return `This sandbox needs ${wantedMb} MiB (memory, workspace and overhead); ${usedMb} of ${limitMb} MiB for all sandboxes are taken.`;
}

/** Refuses at once what does not fit beside the live sandboxes, naming which of the tenant's own would free room. */
export function checkCapacity(
  wanted: MemoryParts,
  live: readonly LiveOccupant[],
  { policy, tenant }: { policy: Policy; tenant: string },
  hostMemoryBytes: number,
): void {
  const lack = lackOfRoom(wanted, live, policy, hostMemoryBytes);
  if (lack === undefined) return;
  const own = live.filter((occupant) => occupant.tenant === tenant);
  const oldest = own.sort((a, b) => a.last_used_at.localeCompare(b.last_used_at)).slice(0, 3);
  const names = oldest.map(({ name, sandbox_id }) => (name === undefined ? sandbox_id : quoted(name, 64)));
  throw new SandboxError("LIMIT_EXCEEDED", lack, {
    next:
      names.length === 0
        ? "Ask for less memory_mb and workspace_mb, or call again later: those that are live are not yours."
        : `Destroy one that is no longer needed, longest unused first: ${names.join(", ")}.`,
    retryable: true,
  });
}

const takenMb = ({ resources, growing_to_mb = 0 }: Occupant): number =>
  memoryBudgetMb({ ...resources, memory_mb: Math.max(resources.memory_mb, growing_to_mb) });

/** What all live sandboxes together may take. */
export function memoryLimitMb({ maxima }: Policy, hostMemoryBytes: number): number {
  const share = Math.floor((hostMemoryBytes / 2 ** 20) * (maxima.memory_total_pct / 100));
  return Math.min(share, maxima.memory_total_mb ?? share);
}

/** Hash of what the engine must be asked for: equal specs are interchangeable before use. */
export function specHash(spec: SandboxSpec): string {
  const { image, profile, resources, network, confinement, env, runtimes, runtime } = spec;
  return createHash("sha256")
    .update(JSON.stringify([image, profile, resources, network, confinement, env, runtimes, runtime ?? null]))
    .digest("hex")
    .slice(0, 16);
}

/**
 * Hash over everything a create asked for, to tell a repeat from a different request under the same request_id. Salted with the
 * install's id, since env values go into it and the hash is stored.
 */
export function requestHash(spec: SandboxSpec, request: CreateRequest, installId: string): string {
  // Not what the operator decides: a changed policy does not make a repeat another request.
  const { image, profile, resources, network, ttl_s, idle_s } = spec;
  const asked = { image, profile, resources, network, ttl_s, idle_s };
  const sorted = (map: Record<string, string> | undefined) =>
    Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(installId)
    .update(JSON.stringify([asked, request.name ?? null, sorted(request.labels), sorted(request.env)]))
    .digest("hex");
}

/** Free uid for a new sandbox: random within the policy's, unused by the live ones. */
export function pickUid(
  taken: ReadonlySet<number>,
  { first, last }: Policy["users"],
  random: () => number = Math.random,
): number {
  const size = last - first + 1;
  const start = Math.floor(random() * size);
  for (let i = 0; i < size; i++) {
    const uid = first + ((start + i) % size);
    if (!taken.has(uid)) return uid;
  }
  throw new SandboxError("LIMIT_EXCEEDED", "No free uid is left for another sandbox.", {
    next: `Destroy a sandbox, or ask the operator to widen users (${first}–${last}).`,
  });
}
