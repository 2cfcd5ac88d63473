import { z } from "zod";

/**
 * Every fact the system tells, one member each; `data` is what CONTRACT section 4 lists for it. Objects are loose: a
 * consumer that validates with yesterday's schema must accept tomorrow's optional field.
 */

const ms = z.int().min(0);
const bytes = z.int().min(0);
const text = (max: number) => z.string().max(max);

export const actorSchema = z.looseObject({
  kind: z.enum(["agent", "operator", "system", "guest", "engine"]),
  client: text(200).optional().describe("MCP client that asked, name and version"),
});
export type Actor = z.infer<typeof actorSchema>;

export const sandboxStates = ["creating", "running", "paused", "ended", "failed"] as const;
export type SandboxState = (typeof sandboxStates)[number];

export const resourcesSchema = z.looseObject({
  cpus: z.number().positive(),
  memory_mb: z.int().positive(),
  pids: z.int().positive(),
  workspace_mb: z.int().positive(),
  tmp_mb: z.int().positive().optional(),
  shm_mb: z.int().positive().optional(),
  workspace_inodes: z.int().positive().optional(),
});

export const networkSchema = z.looseObject({
  mode: z.enum(["none", "allowlist", "open"]),
  allow: z.array(z.string()).optional(),
});

export const endReasons = ["request", "ttl", "idle", "died", "reconciled", "policy"] as const;
export type EndReason = (typeof endReasons)[number];

export const execStatuses = ["running", "exited", "timed_out", "killed", "oom_killed", "lost"] as const;
export type ExecStatus = (typeof execStatuses)[number];

export const endedBy = ["self", "timeout", "kill", "cancel", "oom", "sandbox"] as const;
export type EndedBy = (typeof endedBy)[number];

const changes = z.looseObject({
  changed: z
    .record(z.string(), z.looseObject({ old: z.unknown(), new: z.unknown() }))
    .describe("key → old and new value"),
});

const stats = z.looseObject({
  sampled_at: z.string(),
  uptime_ms: ms,
  cpu: z.looseObject({
    usage_ms: z.number().nullable(),
    usage_pct: z.number().nullable(),
    throttled_ms: z.number().nullable(),
    limit_cpus: z.number().nullable(),
  }),
  memory: z.looseObject({
    used_bytes: bytes.nullable(),
    limit_bytes: bytes.nullable(),
    peak_bytes: bytes.nullable(),
    oom_kills: z.int().nullable(),
  }),
  pids: z.looseObject({ current: z.int().nullable(), limit: z.int().nullable() }),
  workspace: z.looseObject({ used_bytes: bytes.nullable(), limit_bytes: bytes.nullable() }),
  network: z.looseObject({ rx_bytes: bytes.nullable(), tx_bytes: bytes.nullable() }),
  io: z.looseObject({ read_bytes: bytes.nullable(), write_bytes: bytes.nullable() }),
  execs: z.looseObject({ running: z.int(), total: z.int() }),
  notes: z.array(text(300)).optional(),
});
export type StatsData = z.infer<typeof stats>;

/** Journaled events by `domain.action`: the shape of `data` beyond the common fields. */
export const journaledEvents = {
  "lifecycle.created": z.looseObject({
    image: text(512),
    image_digest: text(200).optional(),
    backend: text(64),
    runtime: text(64),
    profile: z.enum(["strict", "dev"]),
    resources: resourcesSchema,
    confined_by: z
      .looseObject({
        capabilities: z.array(text(64)).optional(),
        seccomp: text(100).optional(),
        apparmor: text(255).optional(),
        selinux: z.array(text(256)).optional(),
      })
      .optional(),
    network: networkSchema,
    ttl_s: z.int(),
    idle_s: z.int(),
    warm: z.boolean(),
    origin: z.looseObject({ client: text(200), folder: text(1024) }),
  }),
  "lifecycle.ready": z.looseObject({ duration_ms: ms }),
  "lifecycle.updated": changes,
  "lifecycle.paused": changes,
  "lifecycle.resumed": changes,
  "lifecycle.expiring": z.looseObject({ kind: z.enum(["ttl", "idle"]), in_s: z.number().min(0) }),
  "lifecycle.died": z.looseObject({
    exit_code: z.int().nullable(),
    signal: text(16).optional(),
    oom_killed: z.boolean(),
    expected: z.boolean(),
    uptime_ms: ms.nullable(),
  }),
  "lifecycle.destroyed": z.looseObject({
    reason: z.enum(endReasons),
    totals: z.looseObject({ cpu_ms: ms.nullable(), peak_memory_bytes: bytes.nullable(), execs: z.int().min(0) }),
  }),
  "lifecycle.failed": z.looseObject({ stage: text(64), code: text(64), message: text(1000), retryable: z.boolean() }),
  "exec.started": z.looseObject({ exec_id: text(64), command: text(256), cwd: text(4096), tty: z.boolean() }),
  "exec.completed": z.looseObject({
    exec_id: text(64),
    command: text(256),
    status: z.enum(["exited", "timed_out", "killed", "oom_killed", "lost"]),
    exit_code: z.int().nullable(),
    signal: text(16).optional(),
    ended_by: z.enum(endedBy),
    duration_ms: ms.nullable(),
    stdout_bytes: bytes.nullable(),
    stderr_bytes: bytes.nullable(),
    omitted_bytes: bytes.nullable(),
  }),
  "file.changed": z.looseObject({
    changes: z.array(z.looseObject({ path: text(4096), op: text(16), size_bytes: bytes.nullable() })).max(200),
    omitted: z.int().optional(),
  }),
  "file.transferred": z.looseObject({
    direction: z.enum(["upload", "download"]),
    host_path: text(4096),
    path: text(4096),
    files: z.int(),
    bytes,
    refused: z.int(),
  }),
  "limit.oom": z.looseObject({
    kind: z.literal("memory"),
    limit: z.number().nullable(),
    observed: z.number().nullable(),
    action: z.enum(["none", "throttled", "killed"]),
    exec_id: text(64).optional(),
  }),
  "limit.reached": z.looseObject({
    kind: z.enum(["memory", "cpu", "pids", "workspace", "time", "output"]),
    limit: z.number().nullable(),
    observed: z.number().nullable(),
    action: z.enum(["none", "throttled", "killed"]),
    exec_id: text(64).optional(),
  }),
  "policy.denied": z.looseObject({ what: text(64), requested: z.unknown(), allowed: z.unknown(), rule: text(200) }),
  "journal.dropped": z.looseObject({ from_sequence: z.int(), to_sequence: z.int(), count: z.int(), why: text(200) }),
} as const;

/** Published on core NATS only, never journaled, without sequence. */
export const transientEvents = {
  "stats.sampled": stats,
  "host.up": z.looseObject({
    version: text(64),
    capacity: z.looseObject({
      cpus: z.number(),
      memory_bytes: bytes,
      sandboxes: z.int(),
      sandboxes_limit: z.int(),
      memory_used_mb: z.int(),
      memory_limit_mb: z.int(),
    }),
  }),
} as const;

export type HostUp = z.infer<(typeof transientEvents)["host.up"]>;

export type JournaledType = keyof typeof journaledEvents;
export type TransientType = keyof typeof transientEvents;
export type EventType = JournaledType | TransientType;

export const terminalTypes: ReadonlySet<string> = new Set<JournaledType>(["lifecycle.destroyed", "lifecycle.failed"]);

/** What every `data` has besides its own fields. */
export const commonData = z.looseObject({
  sandbox_id: text(64),
  host: text(128),
  tenant: text(128),
  labels: z.record(z.string(), z.string()),
  actor: actorSchema,
  state: z.enum(sandboxStates),
  request_id: text(128).optional(),
  cause: text(64).optional().describe("id of the event that led to this one"),
});

export type EventData<T extends JournaledType> = z.infer<(typeof journaledEvents)[T]>;

export type LimitKind = EventData<"limit.reached">["kind"];

/** A fact as the core tells it, before the journal numbers it. */
export type SandboxEvent = {
  [T in JournaledType]: {
    type: T;
    data: EventData<T>;
    actor: Actor;
    /** When it happened, RFC 3339; never later than now, nor before its sandbox was. @default now */
    at?: string;
    request_id?: string;
    cause?: string;
    traceparent?: string;
  };
}[JournaledType];

/** A fact as the journal keeps it: numbered, timed and complete. */
export interface JournalEntry {
  /** Position in this store's journal: the order across sandboxes, and the cursor. From 1. */
  cursor: number;
  /** UUIDv7. */
  id: string;
  sandbox_id: string;
  tenant: string;
  host: string;
  type: JournaledType;
  /** Per sandbox, from 1, gapless except as journal.dropped says. */
  sequence: number;
  /** When it happened, RFC 3339, UTC. When it was journaled is in the id. */
  time: string;
  traceparent?: string;
  /** Common and own fields together. */
  data: Record<string, unknown>;
}
