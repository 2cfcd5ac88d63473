import { createHash } from "node:crypto";
import { z } from "zod";
import type { BackendStatus, EngineInfo } from "../../backend.ts";
import type { EngineConnection } from "./client.ts";
import { reservedTasks } from "./options.ts";

/** Answers of the engine about containers and about itself, read leniently: Podman leaves out what Docker tells. */
export const containerAnswer = z.object({
  Id: z.string(),
  Name: z.string(),
  Created: z.string().optional(),
  State: z.object({
    Status: z.string(),
    /** 0 when it does not run. */
    Pid: z.number().optional(),
    ExitCode: z.number().optional(),
    OOMKilled: z.boolean().optional(),
    FinishedAt: z.string().optional(),
  }),
  Config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }),
  /** 0 or nothing: no limit. */
  HostConfig: z
    .object({ Memory: z.number().nullish(), NanoCpus: z.number().nullish(), PidsLimit: z.number().nullish() })
    .optional(),
});
export type ContainerAnswer = z.infer<typeof containerAnswer>;

export const containerRows = z.array(
  z.object({
    Id: z.string(),
    Names: z.array(z.string()).nullish(),
    State: z.string(),
    Created: z.number().optional(),
    Labels: z.record(z.string(), z.string()).nullish(),
  }),
);

export const infoAnswer = z.object({
  ID: z.string().optional(),
  Name: z.string().optional(),
  DockerRootDir: z.string().optional(),
  NCPU: z.number(),
  MemTotal: z.number(),
  DefaultRuntime: z.string().optional(),
  Runtimes: z.record(z.string(), z.unknown()).nullish(),
  /** `name=seccomp,profile=default` */
  SecurityOptions: z.array(z.string()).nullish(),
  MemoryLimit: z.boolean().optional(),
  CpuCfsQuota: z.boolean().optional(),
  PidsLimit: z.boolean().optional(),
});

export function stateOf(status: string): BackendStatus["state"] {
  switch (status) {
    case "running":
    case "paused":
    case "restarting":
    case "stopping":
      return "running";
    case "created":
    case "configured":
    case "initialized":
      return "created";
    default:
      return "exited";
  }
}

export function statusOf(sandboxId: string, { State, Created, HostConfig = {} }: ContainerAnswer): BackendStatus {
  const state = stateOf(State.Status);
  const finishedAt = state === "exited" ? timeOf(State.FinishedAt) : undefined;
  const createdAt = timeOf(Created);
  return {
    sandbox_id: sandboxId,
    state,
    oom_killed: State.OOMKilled ?? false,
    ...(state === "exited" && State.ExitCode !== undefined ? { exit_code: State.ExitCode } : {}),
    ...(createdAt === undefined ? {} : { created_at: createdAt }),
    ...(finishedAt === undefined ? {} : { finished_at: finishedAt }),
    ...(state === "running" && HostConfig.Memory ? { limits: limitsOf(HostConfig.Memory, HostConfig) } : {}),
  };
}

function limitsOf(memory: number, { NanoCpus, PidsLimit }: NonNullable<ContainerAnswer["HostConfig"]>) {
  return {
    memory_limit_mb: Math.round(memory / 2 ** 20),
    ...(NanoCpus ? { cpus: NanoCpus / 1e9 } : {}),
    ...(PidsLimit && PidsLimit > reservedTasks ? { pids: PidsLimit - reservedTasks } : {}),
  };
}

/** An engine's time; undefined for the zero time it gives to what has not happened. */
function timeOf(text: string | undefined): string | undefined {
  const ms = text === undefined ? Number.NaN : Date.parse(text);
  return ms > 0 ? new Date(ms).toISOString() : undefined;
}

export function engineInfo({ server, address }: EngineConnection, info: z.infer<typeof infoAnswer>): EngineInfo {
  const podman = server.Components?.some(({ Name }) => Name.startsWith("Podman")) ?? false;
  const kind = podman ? "Podman" : "Docker";
  const runtimes = Object.keys(info.Runtimes ?? {});
  const first = info.DefaultRuntime ?? runtimes[0];
  return {
    // Podman makes a new ID for every answer, and several old Docker engines on one host share theirs; where they keep their data differs.
    engine_id: `${kind.toLowerCase()}-${digest(`${podman ? info.Name : (info.ID ?? info.Name)}\n${info.DockerRootDir}`)}`,
    description: `${kind} ${server.Version} at ${address.endpoint}`,
    version: server.Version,
    // Podman lists what its configuration knows, and passes over the one a create asks for.
    runtimes: first === undefined ? runtimes : [first, ...(podman ? [] : runtimes.filter((name) => name !== first))],
    cpus: info.NCPU,
    memory_bytes: info.MemTotal,
    ...(info.SecurityOptions && { confines: info.SecurityOptions.map(securityModule) }),
    missing_limits: missingLimits(info),
    ignored: podman ? { [first ?? ""]: ignoredByPodman } : ignoredBy(info.Runtimes ?? {}),
    // Podman knows no such option of a tmpfs.
    bounds_inodes: !podman,
  };
}

/** Its Docker API has no place for lists of paths and takes a profile for a file's name; without a network it writes no resolv.conf. */
const ignoredByPodman = ["seccomp", "masked_paths", "readonly_paths", "dns"] as const;

/** gVisor has a kernel of its own: what the host's would confine with does not reach the commands. */
function ignoredBy(runtimes: Record<string, unknown>): NonNullable<EngineInfo["ignored"]> {
  const gvisor = Object.entries(runtimes).filter(([name, what]) => /runsc|gvisor/i.test(name + JSON.stringify(what)));
  return Object.fromEntries(
    gvisor.map(([name]) => [
      name,
      ["seccomp", "apparmor", "selinux", "masked_paths", "readonly_paths", "workspace_inodes"] as const,
    ]),
  );
}

/** `seccomp` of `name=seccomp,profile=default`; some engines say the name alone. */
const securityModule = (option: string): string => option.replace(/^name=/, "").replace(/,.*$/s, "");

/** An engine that does not speak of a limit is taken to have it: its create call still warns of what it discards. */
function missingLimits(info: z.infer<typeof infoAnswer>): string[] {
  const missing = { cpus: info.CpuCfsQuota, memory: info.MemoryLimit, pids: info.PidsLimit };
  return Object.entries(missing).flatMap(([name, there]) => (there === false ? [name] : []));
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}
