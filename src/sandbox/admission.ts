import { createHash } from "node:crypto";
import { SandboxError } from "../errors.ts";
import type { CreateRequest } from "./api.ts";
import { memoryBudgetMb, type Profile, type Resources } from "./backend.ts";
import { imageAllowed, minima, type Policy } from "./policy.ts";

/** Pure decisions: may this be, and what exactly is it then. */

/** What will be created, every default filled in. */
export interface SandboxSpec {
  image: string;
  profile: Profile;
  resources: Resources;
  network: { mode: "none" };
  ttl_s: number;
  idle_s: number;
}

/** A refusal by the operator's policy, with what `policy.denied` tells of it. */
export class PolicyDenied extends SandboxError {
  readonly what: string;
  readonly requested: unknown;
  readonly allowed: unknown;
  readonly rule: string;

  constructor(rule: string, what: string, requested: unknown, allowed: unknown, message: string, next?: string) {
    super("POLICY_DENIED", `${message} (rule ${rule})`, next === undefined ? {} : { next });
    this.rule = rule;
    this.what = what;
    this.requested = requested;
    this.allowed = allowed;
  }
}

const bounded = ["ttl_s", "idle_s", "cpus", "memory_mb", "pids", "workspace_mb"] as const;
type Bounded = (typeof bounded)[number];

/** The spec that a request means under a policy. POLICY_DENIED beyond the ceiling, INVALID_ARGUMENT below what works. */
export function admit(request: CreateRequest, policy: Policy, defaultImage: string): SandboxSpec {
  const image = request.image ?? defaultImage;
  if (!policy.images.includes("*") && !imageAllowed(policy, image)) {
    throw new PolicyDenied(
      "images",
      "image",
      image,
      policy.images,
      `The policy does not allow the image ${JSON.stringify(image)}.`,
    );
  }
  const profile = request.profile ?? "strict";
  if (!policy.profiles.includes(profile)) {
    throw new PolicyDenied(
      "profiles",
      "profile",
      profile,
      policy.profiles,
      `The policy does not allow the profile "${profile}".`,
    );
  }
  const network = request.network ?? "none";
  if (network !== "none" || (request.allow?.length ?? 0) > 0) {
    throw new PolicyDenied(
      "networks",
      "network",
      request.allow?.length ? { mode: network, allow: request.allow } : network,
      policy.networks,
      `A sandbox here has no network but its own 127.0.0.1; "${network === "none" ? "allow" : network}" cannot be had.`,
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
    },
    ttl_s: value("ttl_s"),
    idle_s: value("idle_s"),
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
      : `env: ${JSON.stringify(wrong.slice(0, 60))} is no name of a variable (1–${mostEnvKeyLength} characters without "=").`,
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
      `Ask for at most ${max}, or ask the operator to raise maxima.${key}.`,
    );
  }
  return value;
}

export interface Occupancy {
  sandbox_id: string;
  name?: string | undefined;
  resources: Pick<Resources, "memory_mb" | "workspace_mb">;
  last_used_at: string;
}

/** Refuses at once what does not fit beside the live sandboxes, naming what would free room. */
export function checkCapacity(
  wanted: Pick<Resources, "memory_mb" | "workspace_mb">,
  live: readonly Occupancy[],
  policy: Policy,
  hostMemoryBytes: number,
): void {
  const oldest = [...live].sort((a, b) => a.last_used_at.localeCompare(b.last_used_at)).slice(0, 3);
  const next =
    oldest.length === 0
      ? "Ask for less memory_mb and workspace_mb."
      : `Destroy one that is no longer needed, longest unused first: ${oldest.map((s) => s.name ?? s.sandbox_id).join(", ")}.`;
  if (live.length + 1 > policy.maxima.sandboxes) {
    throw new SandboxError(
      "LIMIT_EXCEEDED",
      `${live.length} sandboxes are live and the policy allows ${policy.maxima.sandboxes} at once.`,
      { next, retryable: true },
    );
  }
  const limitMb = Math.floor((hostMemoryBytes / 2 ** 20) * (policy.maxima.memory_total_pct / 100));
  const usedMb = live.reduce((sum, s) => sum + memoryBudgetMb(s.resources), 0);
  const wantedMb = memoryBudgetMb(wanted);
  if (usedMb + wantedMb > limitMb) {
    throw new SandboxError(
      "LIMIT_EXCEEDED",
      `This sandbox needs ${wantedMb} MiB (memory, workspace and overhead); ${usedMb} of ${limitMb} MiB for all sandboxes are taken.`,
      { next, retryable: true },
    );
  }
}

/** Hash of what the engine must be asked for: equal specs are interchangeable before use. */
export function specHash(spec: SandboxSpec): string {
  return createHash("sha256")
    .update(JSON.stringify([spec.image, spec.profile, spec.resources, spec.network]))
    .digest("hex")
    .slice(0, 16);
}

/**
 * Hash over everything a create asked for, to tell a repeat from a different request under the same request_id. Salted with the
 * install's id, since env values go into it and the hash is stored.
 */
export function requestHash(spec: SandboxSpec, request: CreateRequest, installId: string): string {
  const sorted = (map: Record<string, string> | undefined) =>
    Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(installId)
    .update(JSON.stringify([spec, request.name ?? null, sorted(request.labels), sorted(request.env)]))
    .digest("hex");
}

/** Free uid for a new sandbox: random within 20000–59999, unused by the live ones. */
export function pickUid(taken: ReadonlySet<number>, random: () => number = Math.random): number {
  const size = 40_000;
  const start = Math.floor(random() * size);
  for (let i = 0; i < size; i++) {
    const uid = 20_000 + ((start + i) % size);
    if (!taken.has(uid)) return uid;
  }
  throw new SandboxError("LIMIT_EXCEEDED", "No free uid is left for another sandbox.");
}
