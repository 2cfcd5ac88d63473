import { createHash } from "node:crypto";
import { SandboxError } from "../errors.ts";
import type { BackendSpec, Confinement, EngineInfo, Ignorable, Profile, Resources } from "./backend.ts";
import type { Policy } from "./policy.ts";

/** Pure: what the policy makes of a sandbox beyond its limits, and whether an engine can have it so. */

/** What will be created, every default filled in. */
export interface SandboxSpec {
  /** Normalised; with the digest the policy pins it to. */
  image: string;
  profile: Profile;
  resources: Resources;
  network: { mode: "none" };
  ttl_s: number;
  idle_s: number;
  confinement: Confinement;
  /** What every command's environment begins with, below what image and agent say. */
  env: Record<string, string>;
  /** Runtimes the policy asks for, in order of preference. Empty: the engine's default. */
  runtimes: readonly string[];
  /** The one chosen for an engine; undefined: its default. */
  runtime?: string;
}

export function confinementOf(policy: Policy, profile: Profile): Confinement {
  const { seccomp, ...security } = policy.security;
  return {
    capabilities: profile === "dev" ? policy.capabilities : [],
    ...security,
    ...(seccomp?.json !== undefined && { seccomp: seccomp.json }),
    dns: policy.dns,
    ulimits: policy.ulimits,
  };
}

/** Both spellings: programs read one or the other. */
export function proxyEnv({ proxy }: Policy): Record<string, string> {
  const values = {
    http_proxy: proxy.http,
    https_proxy: proxy.https,
    all_proxy: proxy.all,
    no_proxy: proxy.none?.join(","),
  };
  const set = Object.entries(values).filter((pair): pair is [string, string] => Boolean(pair[1]));
  return Object.fromEntries(
    set.flatMap(([key, value]) => [
      [key, value],
      [key.toUpperCase(), value],
    ]),
  );
}

/** The spec on one engine. What cannot be had there is an error, never left out. */
export function fitEngine(spec: SandboxSpec, engine: EngineInfo): SandboxSpec {
  const { confinement, resources } = spec;
  const asked = {
    seccomp: confinement.seccomp !== undefined,
    apparmor: confinement.apparmor !== undefined,
    selinux: confinement.selinux !== undefined,
  };
  for (const [name, wanted] of Object.entries(asked)) {
    if (wanted && engine.confines !== undefined && !engine.confines.includes(name)) {
      throw cannot(engine, `has no ${name}, which the policy asks for (security.${name})`, `remove security.${name}`);
    }
  }
  const missing = engine.missing_limits ?? [];
  if (missing.length > 0) {
    throw cannot(
      engine,
      `cannot limit ${missing.join(" and ")}: the host lacks the cgroup controller, or does not delegate it`,
      "give the engine all of cpu, memory and pids (rootless: `systemctl edit user@.service` with `Delegate=yes`)",
    );
  }
  if (resources.workspace_inodes !== undefined && engine.bounds_inodes === false) {
    throw cannot(
      engine,
      "cannot bound the files of a workspace (sizes.workspace_inodes)",
      "remove sizes.workspace_inodes",
    );
  }
  const runtime = spec.runtimes.find((name) => engine.runtimes.includes(name));
  if (runtime === undefined && spec.runtimes.length > 0) {
    throw cannot(
      engine,
      `has none of the runtimes the policy asks for, ${spec.runtimes.join(", ")}; it names ${engine.runtimes.join(", ")}`,
      `register one of them with the engine, or change runtimes`,
    );
  }
  const runs = runtime ?? engine.runtimes[0] ?? "";
  const ignored = engine.ignored?.[runs] ?? [];
  const lost = ignored.find((name) => asksFor(spec, name));
  if (lost !== undefined) {
    const rule = lost === "dns" ? lost : `${lost === "workspace_inodes" ? "sizes" : "security"}.${lost}`;
    throw cannot(
      engine,
      `would run this with ${runs}, which does not take ${rule}`,
      `remove ${rule}, or change runtimes`,
    );
  }
  const bounds = engine.bounds_inodes && !ignored.includes("workspace_inodes");
  const inodes = bounds ? { workspace_inodes: resources.workspace_mb * inodesPerMb } : {};
  return { ...spec, resources: { ...inodes, ...resources }, ...(runtime !== undefined && { runtime }) };
}

function asksFor({ confinement, resources }: SandboxSpec, name: Ignorable): boolean {
  if (name === "workspace_inodes") return resources.workspace_inodes !== undefined;
  if (name === "dns") return Object.values(confinement.dns ?? {}).some((list) => list.length > 0);
  const asked = confinement[name];
  return asked !== undefined && asked.length > 0;
}

/** Twice the pages there are: a file of any content takes one, folders and links take none. */
const inodesPerMb = 512;

function cannot(engine: EngineInfo, why: string, next: string): SandboxError {
  return new SandboxError("BACKEND_UNAVAILABLE", `The engine (${engine.description}) ${why}.`, {
    next: `The operator can ${next}.`,
    retryable: false,
  });
}

/** What the backend is asked for. */
export function engineSpec(
  spec: SandboxSpec,
  own: Pick<BackendSpec, "sandbox_id" | "image_id" | "uid" | "boot_lease_ms" | "spec_hash">,
): BackendSpec {
  return {
    ...own,
    profile: spec.profile,
    resources: spec.resources,
    confinement: spec.confinement,
    network: "none",
    ...(spec.runtime !== undefined && { runtime: spec.runtime }),
  };
}

/** How a sandbox differs from the built-in confinement, for records and events; undefined when it does not. */
export function confinedBy({ profile, confinement }: SandboxSpec): ConfinedBy | undefined {
  const { capabilities = [], seccomp, apparmor, selinux } = confinement;
  const told = {
    ...(profile === "dev" && { capabilities: [...capabilities] }),
    ...(seccomp !== undefined && { seccomp: `sha256:${createHash("sha256").update(seccomp).digest("hex")}` }),
    ...(apparmor !== undefined && { apparmor }),
    ...(selinux !== undefined && { selinux: [...selinux] }),
  };
  return Object.keys(told).length === 0 ? undefined : told;
}

export interface ConfinedBy {
  capabilities?: string[];
  /** Hash of the profile. */
  seccomp?: string;
  apparmor?: string;
  selinux?: string[];
}
