import { z } from "zod";
import { endedBy, endReasons, execStatuses, sandboxStates } from "./events.ts";

/** What the service answers and tools return: names, units and shapes of CONTRACT section 3. */

const cursor = z.string().describe("Pass to sandbox_events as `after` to wait for what comes next.");

export const execSchema = z.object({
  exec_id: z.string(),
  status: z.enum(execStatuses),
  exit_code: z.int().min(-1).max(255).nullable().describe("null unless status is exited"),
  signal: z.string().optional(),
  ended_by: z.enum(endedBy).optional(),
  oom_kills: z.int().min(0).max(1e9),
  left_running: z.int().min(0).max(1e6).describe("Children alive after the main process ended"),
  cwd: z.string(),
  started_at: z.string(),
  duration_ms: z.number(),
  stdout: z.string(),
  stderr: z.string(),
  stdout_bytes: z.number().describe("Produced so far"),
  stderr_bytes: z.number(),
  stdout_next: z.number().describe("Offset to read on from"),
  stderr_next: z.number(),
  omitted: z
    .array(
      z.object({
        stream: z.enum(["stdout", "stderr"]),
        from: z.number(),
        to: z.number(),
        recoverable: z.boolean(),
      }),
    )
    .optional(),
  notes: z.array(z.string()).optional(),
  event_cursor: cursor,
});
export type ExecResult = z.infer<typeof execSchema>;

export const execInputSchema = z.object({
  accepted_bytes: z
    .int()
    .min(0)
    .max(1e9)
    .describe("Fewer than given: the command did not read in time, and eof was not sent"),
});

export const execRowSchema = z.object({
  exec_id: z.string(),
  command: z.string(),
  status: z.enum(execStatuses),
  exit_code: z.int().min(-1).max(255).nullable(),
  started_at: z.string(),
  duration_ms: z.number().nullable(),
  stdout_bytes: z.number().nullable(),
  stderr_bytes: z.number().nullable(),
});
export type ExecRow = z.infer<typeof execRowSchema>;

const resources = z.object({
  cpus: z.number(),
  memory_mb: z.number(),
  pids: z.number(),
  workspace_mb: z.number(),
  tmp_mb: z.number().optional(),
  shm_mb: z.number().optional(),
  workspace_inodes: z.number().optional(),
});

const confinedBy = z.object({
  capabilities: z.array(z.string()).optional(),
  seccomp: z.string().optional(),
  apparmor: z.string().optional(),
  selinux: z.array(z.string()).optional(),
});

const origin = z.object({ client: z.string(), folder: z.string() });

const ended = z.object({
  at: z.string(),
  reason: z.enum([...endReasons, "failed"]),
  message: z.string().optional(),
  exit_code: z.number().nullable().optional(),
  oom_killed: z.boolean(),
  last_execs: z.array(execRowSchema),
});

export const sandboxSchema = z.object({
  sandbox_id: z.string(),
  name: z.string().optional(),
  state: z.enum(sandboxStates),
  ended: ended.optional(),
  backend: z.string(),
  runtime: z.string(),
  image: z.string(),
  image_digest: z.string().optional(),
  programs: z.record(z.string(), z.string()).optional(),
  shell: z.string().optional(),
  profile: z.enum(["strict", "dev"]),
  resources,
  confined_by: confinedBy.optional(),
  network: z.object({ mode: z.enum(["none", "allowlist", "open"]), allow: z.array(z.string()).optional() }),
  workdir: z.string(),
  env_keys: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  origin,
  warm: z.boolean(),
  created_at: z.string(),
  expires_in_s: z.number().nullable(),
  idle_in_s: z.number().nullable(),
  last_used_at: z.string(),
  last_command: z.string().optional(),
  running_execs: z.number(),
  event_cursor: cursor,
});
export type SandboxView = z.infer<typeof sandboxSchema>;

export const sandboxRowSchema = z.object({
  sandbox_id: z.string(),
  name: z.string().optional(),
  state: z.enum(sandboxStates),
  ended_reason: z.enum([...endReasons, "failed"]).optional(),
  image: z.string(),
  labels: z.record(z.string(), z.string()),
  origin,
  created_at: z.string(),
  expires_in_s: z.number().nullable(),
  last_used_at: z.string(),
  last_command: z.string().optional(),
});
export type SandboxRow = z.infer<typeof sandboxRowSchema>;

export const sandboxListSchema = z.object({ sandboxes: z.array(sandboxRowSchema), next_cursor: z.string().optional() });
export type SandboxList = z.infer<typeof sandboxListSchema>;

export const destroyedSchema = z.object({
  sandbox_id: z.string(),
  destroyed: z.boolean(),
  already_ended: z.boolean(),
});
export type Destroyed = z.infer<typeof destroyedSchema>;

const count = z.number().nullable();

export const statsSchema = z.object({
  sampled_at: z.string(),
  uptime_ms: z.number(),
  cpu: z.object({ usage_ms: count, usage_pct: count, throttled_ms: count, limit_cpus: count }),
  memory: z.object({ used_bytes: count, limit_bytes: count, peak_bytes: count, oom_kills: count }),
  pids: z.object({ current: count, limit: count }),
  workspace: z.object({ used_bytes: count, limit_bytes: count }),
  network: z.object({ rx_bytes: count, tx_bytes: count }),
  io: z.object({ read_bytes: count, write_bytes: count }),
  execs: z.object({ running: z.number(), total: z.number() }),
  notes: z.array(z.string()).optional(),
});
export type StatsView = z.infer<typeof statsSchema>;

export const fileTypes = ["file", "dir", "symlink", "fifo", "socket", "device"] as const;

export const fileReadSchema = z.object({
  path: z.string(),
  content: z.string(),
  encoding: z.enum(["utf8", "base64"]),
  size_bytes: z.number(),
  mode: z.string(),
  etag: z.string(),
  line_start: z.number().optional(),
  line_end: z.number().optional(),
  total_lines: z.number().optional(),
  next_line: z.number().optional(),
  next_offset: z.number().optional(),
  omitted: z.boolean().describe("Whether something of what was asked for is not in content"),
  notes: z.array(z.string()).optional(),
});
export type FileReadResult = z.infer<typeof fileReadSchema>;

export const fileWriteSchema = z.object({
  files: z.array(z.object({ path: z.string(), size_bytes: z.number(), etag: z.string(), created: z.boolean() })),
});
export type FileWriteResult = z.infer<typeof fileWriteSchema>;

export const fileEntrySchema = z.object({
  path: z.string(),
  type: z.enum(fileTypes),
  size_bytes: z.number(),
  mode: z.string(),
  modified_at: z.string(),
  target: z.string().optional(),
});
export const fileListSchema = z.object({ entries: z.array(fileEntrySchema), next_cursor: z.string().optional() });
export type FileListResult = z.infer<typeof fileListSchema>;

export const fileEditSchema = z.object({
  etag: z.string(),
  replacements: z.number(),
  diff: z.string().describe("Unified, at most 4 KiB"),
});
export type FileEditResult = z.infer<typeof fileEditSchema>;

const aroundLines = z.array(z.string()).optional();
export const fileSearchSchema = z.object({
  matches: z.array(
    z.object({ path: z.string(), line: z.number(), text: z.string(), before: aroundLines, after: aroundLines }),
  ),
  omitted: z.number().describe("Matches beyond the limit, counted up to 10000"),
  files_searched: z.number(),
  notes: z.array(z.string()).optional(),
});
export type FileSearchResult = z.infer<typeof fileSearchSchema>;

export const fileManageSchema = z.object({
  path: z.string(),
  entries: z.number().describe("Made, moved, copied or deleted"),
});
export type FileManageResult = z.infer<typeof fileManageSchema>;

export const fileTransferSchema = z.object({
  files: z.number(),
  bytes: z.number(),
  refused: z.array(z.object({ path: z.string(), why: z.string() })),
  refused_omitted: z.number().optional().describe("Refused ones that are not listed"),
});
export type FileTransferResult = z.infer<typeof fileTransferSchema>;

/** One event as `sandbox_events` gives it: compact, or the CloudEvent as NATS consumers see it. */
export const eventsSchema = z.object({
  events: z.array(z.record(z.string(), z.unknown())),
  next_cursor: z.string(),
  gap: z.string().optional().describe("Events after `after` that are no longer kept, or that NATS does not take"),
});
export type EventsResult = z.infer<typeof eventsSchema>;
