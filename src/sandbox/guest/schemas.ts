import { z } from "zod";

/**
 * What the guest may say. Everything is bounded: a captured guest is a normal case. Unknown fields are dropped, so that a newer
 * guest still makes sense.
 */

const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
/** Milliseconds; some guests measure finer. */
const ms = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
const amount = z.number().min(0).max(Number.MAX_SAFE_INTEGER).nullable();
const time = z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/);
/** A short word of printable ASCII: versions, names of machines and shells. */
const word = z.string().regex(/^[ -~]{0,64}$/);
const path = z.string().max(4096);
const id = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const etag = z.string().regex(/^[!-~]{1,128}$/);
const signalName = z.string().regex(/^[A-Z0-9+]{1,16}$/);
const exitCode = z.int().min(-1).max(255);

export const lease = z.object({
  claimed: z.boolean(),
  ttl_remaining_ms: ms.nullable(),
  idle_remaining_ms: ms.nullable(),
});

export const health = z.object({
  api: z.literal(1),
  version: word,
  sandbox_id: id,
  pid: count,
  started_at: time,
  uptime_ms: ms,
  uid: count,
  workdir: path,
  shell: z.string().regex(/^[ -~]{0,256}$/),
  arch: word,
  state: z.enum(["running", "paused"]),
  lease,
  facts: z.object({ oldest: count, next: count }),
  execs: z.object({ running: count, total: count }),
});

export const envKeys = z.object({ keys: z.array(z.string().max(1024)).max(256) });

export const programs = z.object({
  programs: z
    .record(z.string().regex(/^[\w.+-]{1,32}$/), z.string().regex(/^[ -~]{0,64}$/))
    .refine((found) => Object.keys(found).length <= 64),
});

const range = z.tuple([count, count]);
const kept = z.array(range).max(2);

/** The guest's word for who ended an exec. */
const endedBy = z.enum(["self", "timeout", "kill", "cancel", "oom", "sandbox"]);
const ended = z.enum(["exited", "timed_out", "killed", "oom_killed"]);

export const exec = z.object({
  exec_id: id,
  status: z.enum(["running", ...ended.options]),
  exit_code: exitCode.nullable(),
  signal: signalName.nullable(),
  ended_by: endedBy.nullable(),
  oom_kills: count,
  left_running: count,
  cwd: path,
  tty: z.boolean(),
  pid: count,
  started_at: time,
  ended_at: time.nullable(),
  duration_ms: ms,
  stdout_bytes: count,
  stderr_bytes: count,
  omitted_bytes: count,
  stdout_kept: kept,
  stderr_kept: kept,
});

export const killed = z.object({ exec });
export const execs = z.object({ execs: z.array(exec).max(8192) });
export const acceptedBytes = z.object({ accepted_bytes: count });

/** 2 KiB are allowed; escapes of another JSON writer may make it longer. */
const maxMetaChars = 16 * 1024;
const meta = z.unknown().refine((value) => {
  try {
    return value === undefined || JSON.stringify(value).length <= maxMetaChars;
  } catch {
    return false; // nested so deep that it cannot be written again
  }
});

const common = { seq: z.int().min(1).max(Number.MAX_SAFE_INTEGER), at: time };

/** Goes along with what a server asked for. */
const asked = { change_id: id.default(""), meta: meta.exactOptional() };

/** By all that ran in it, over its whole life. */
const used = { cpu_ms: amount.exactOptional(), peak_memory_bytes: count.nullable().exactOptional() };

const knownFact = z.discriminatedUnion("kind", [
  z.object({ ...common, kind: z.literal("boot"), version: word, api: count, sandbox_id: id }),
  z.object({
    ...common,
    kind: z.literal("exec.started"),
    exec_id: id,
    // A line of the flight recorder that would be too long leaves out these two first.
    command: z.string().max(1024).default(""),
    cwd: path.default(""),
    tty: z.boolean(),
    started_at: time.exactOptional(),
    meta: meta.exactOptional(),
  }),
  z.object({
    ...common,
    kind: z.literal("exec.ended"),
    exec_id: id,
    status: ended,
    exit_code: exitCode.nullable(),
    signal: signalName.nullable(),
    ended_by: endedBy,
    oom_kills: count,
    duration_ms: ms,
    stdout_bytes: count,
    stderr_bytes: count,
    omitted_bytes: count,
    meta: meta.exactOptional(),
  }),
  z.object({
    ...common,
    kind: z.literal("files"),
    ...asked,
    changes: z
      .array(z.object({ path, op: z.string().regex(/^[a-z]{1,16}$/), size_bytes: count.nullable() }))
      .max(200)
      .default([]),
    omitted: count.default(0),
  }),
  z.object({ ...common, kind: z.literal("oom"), oom_kills: count, exec_id: id.nullish() }),
  z.object({
    ...common,
    kind: z.literal("limit"),
    // A newer guest may know of more.
    limit: z.string().max(32),
    observed: amount,
    max: amount,
    exec_id: id.nullish(),
  }),
  z.object({ ...common, kind: z.literal("lease.expiring"), lease: z.enum(["ttl", "idle"]), in_ms: ms }),
  z.object({ ...common, kind: z.literal("lease.over"), lease: z.enum(["ttl", "idle", "boot"]), ...used }),
  z.object({ ...common, kind: z.literal("paused"), ...asked }),
  z.object({ ...common, kind: z.literal("resumed"), ...asked }),
  z.object({ ...common, kind: z.literal("shutdown"), reason: z.string().max(1024), ...used }),
]);
const knownKinds: ReadonlySet<string> = new Set(knownFact.options.map((option) => option.shape.kind.value));

/** Of a newer guest: counts for the cursor, tells nothing. */
const unknownFact = z
  .object({ ...common, kind: z.string().max(64) })
  .refine(({ kind }) => !knownKinds.has(kind))
  .transform(({ seq, at }) => ({ seq, at, kind: "unknown" as const }));

export const fact = z.union([knownFact, unknownFact]);

/** `next` is the sequence the next fact will get; `oldest` equals it while none is kept. */
export const facts = z.object({ facts: z.array(fact).max(256), oldest: count, next: count });

const segment = z.object({ stream: z.enum(["stdout", "stderr"]), from: count, len: count });
const matched = z.object({ stream: segment.shape.stream, offset: count, line: z.string().max(4096) });
export const viewHeader = z.object({
  exec,
  segments: z.array(segment).max(400),
  matched: matched.nullish(),
  match_total: count.nullish(),
  match_partial: z.boolean().nullish(),
  match_more: z.boolean().nullish(),
  facts: facts.nullish(),
});

export const stat = z.object({
  path,
  path_base64: z.string().max(8192).exactOptional(),
  type: z.enum(["file", "dir", "symlink", "fifo", "socket", "device"]),
  size_bytes: count,
  mode: z.string().regex(/^[0-7]{3,5}$/),
  modified_at: time,
  etag,
  target: path.exactOptional(),
});

export const fileHeader = z.object({
  file: stat,
  offset: count,
  len: count,
  line_start: count.exactOptional(),
  line_end: count.exactOptional(),
  total_lines: count.exactOptional(),
  next_line: count.exactOptional(),
  next_offset: count.exactOptional(),
  omitted: z.boolean(),
  cut_lines: count,
});

export const written = z.object({
  files: z.array(z.object({ path, size_bytes: count, etag, created: z.boolean() })).max(10_000),
  facts: facts.exactOptional(),
});

export const listing = z.object({
  entries: z.array(stat).max(10_000),
  next_cursor: z.string().max(16_384).exactOptional(),
});

const lineText = z.string().max(4096);
const context = z.array(lineText).max(5).exactOptional();
export const found = z.object({
  matches: z.array(z.object({ path, line: count, text: lineText, before: context, after: context })).max(500),
  omitted: count,
  files_searched: count,
  stopped: z.enum(["time", "size"]).exactOptional(),
});

export const managed = z.object({ path, entries: count, facts: facts.exactOptional() });

const refused = z.object({ path, why: z.string().max(1024) });
export const leftOut = z.object({ total: count, paths: z.array(refused).max(200) });
export const extracted = z.object({
  files: count,
  bytes: count,
  refused: z.array(refused).max(200),
  refused_total: count,
});

export const stats = z.object({
  sampled_at: time,
  uptime_ms: ms,
  cpu: z.object({ usage_ms: amount, throttled_ms: amount, limit_cpus: amount }),
  memory: z.object({ used_bytes: amount, limit_bytes: amount, peak_bytes: count.nullable(), oom_kills: amount }),
  pids: z.object({ current: amount, limit: amount }),
  workspace: z.object({ used_bytes: amount, limit_bytes: amount }),
  network: z.object({ rx_bytes: amount, tx_bytes: amount }),
  io: z.object({ read_bytes: amount, write_bytes: amount }),
  execs: z.object({ running: count, total: count }),
  notes: z.array(z.string().max(300)).max(32),
});

/** Every refusal. Details stand beside the message or below `details`. */
const details = { kind: z.string().max(64).exactOptional(), errno: z.string().max(64).exactOptional() };
export const failure = z.object({
  code: z.string().max(64),
  message: z.string().max(64 * 1024),
  ...details,
  details: z.object(details).exactOptional(),
});

export const nothing = z.object({});
