import type { ExecSnapshot, GuestExec } from "./guest/types.ts";
import type { ExecResult } from "./views.ts";

/** Pure: what a guest's snapshot means for the one who reads it. */

export type Omitted = NonNullable<ExecResult["omitted"]>[number];

export interface StreamText {
  text: string;
  /** Offset after the last byte in `text`. */
  next: number;
  omitted: Omitted[];
}

/** Text of one stream from `offset` on; invalid bytes become U+FFFD. What lies between segments is named, never joined silently. */
export function streamText(snapshot: ExecSnapshot, stream: "stdout" | "stderr", offset: number): StreamText {
  const segments = snapshot.segments.filter((segment) => segment.stream === stream).sort((a, b) => a.from - b.from);
  const kept = stream === "stdout" ? snapshot.exec.stdout_kept : snapshot.exec.stderr_kept;
  const omitted: Omitted[] = [];
  let position = offset;
  let text = "";
  for (const { from, bytes } of segments) {
    if (from > position) {
      omitted.push(...splitByKept(stream, position, from, kept));
      if (text !== "" && !text.endsWith("\n")) text += "\n";
      text += `[… ${from - position} bytes of ${stream} left out …]\n`;
    }
    text += new TextDecoder().decode(bytes);
    position = from + bytes.length;
  }
  return { text, next: position, omitted };
}

/** A left-out range in pieces: those the spool still has can be read, the others are gone. */
function splitByKept(
  stream: "stdout" | "stderr",
  from: number,
  to: number,
  kept: readonly (readonly [number, number])[],
): Omitted[] {
  const pieces: Omitted[] = [];
  let position = from;
  for (const [start, end] of kept) {
    const [left, right] = [Math.max(start, position), Math.min(end, to)];
    if (left >= right) continue;
    if (left > position) pieces.push({ stream, from: position, to: left, recoverable: false });
    pieces.push({ stream, from: left, to: right, recoverable: true });
    position = right;
  }
  if (position < to) pieces.push({ stream, from: position, to, recoverable: false });
  return pieces;
}

const noNetwork =
  /could not resolve host|temporary failure in name resolution|network is unreachable|name or service not known|getaddrinfo (?:EAI_AGAIN|ENOTFOUND)|bad address '|no address associated with hostname/i;

/** What an agent would puzzle over, in words. */
export function execNotes(
  exec: GuestExec,
  texts: { stdout: string; stderr: string },
  context: { memoryMb: number; timeoutMs?: number | undefined; ttlRemainingMs?: number | undefined },
): string[] {
  const notes: string[] = [];
  if (exec.status === "oom_killed") {
    notes.push(
      `Killed for lack of memory: the sandbox has ${context.memoryMb} MiB. Raise it with sandbox_update or use less.`,
    );
  } else if (exec.oom_kills > 0) {
    notes.push(`${exec.oom_kills} process(es) of this exec were killed for lack of memory (${context.memoryMb} MiB).`);
  } else if (exec.exit_code === 137) {
    notes.push("Exit 137 means a process was ended by signal KILL; no memory limit was hit.");
  }
  if (exec.exit_code === 127) {
    notes.push("Exit 127: the shell did not find the program. sandbox_get lists the image's `programs`.");
  }
  if (exec.exit_code === 126)
    notes.push("Exit 126: found but not executable (mode, or a binary for another architecture).");
  if (exec.status === "timed_out") notes.push("timeout_s was over: the whole process tree was killed.");
  if (exec.left_running > 0 && exec.status !== "running") {
    notes.push(
      `${exec.left_running} process(es) it started still run in the background; exec_kill with this exec_id ends them.`,
    );
  }
  if (exec.status !== "running" && exec.exit_code !== 0 && noNetwork.test(`${texts.stderr}\n${texts.stdout}`)) {
    notes.push("This sandbox has no network: only 127.0.0.1 can be reached.");
  }
  const { timeoutMs, ttlRemainingMs } = context;
  if (timeoutMs !== undefined && ttlRemainingMs !== undefined && ttlRemainingMs < timeoutMs) {
    notes.push(
      `The sandbox's ttl ends in ${Math.ceil(ttlRemainingMs / 1000)} s, before timeout_s; sandbox_update extends it.`,
    );
  }
  return notes;
}

/** The exec as tools return it. */
export function execResult(
  snapshot: ExecSnapshot,
  offsets: { stdout: number; stderr: number },
  context: { eventCursor: string } & Parameters<typeof execNotes>[2],
): ExecResult {
  const { exec } = snapshot;
  const stdout = streamText(snapshot, "stdout", offsets.stdout);
  const stderr = streamText(snapshot, "stderr", offsets.stderr);
  const omitted = [...stdout.omitted, ...stderr.omitted];
  const notes = execNotes(exec, { stdout: stdout.text, stderr: stderr.text }, context);
  return {
    exec_id: exec.exec_id,
    status: exec.status,
    exit_code: exec.status === "exited" ? exec.exit_code : null,
    ...(exec.signal && { signal: exec.signal }),
    ...(exec.ended_by && { ended_by: exec.ended_by }),
    oom_kills: exec.oom_kills,
    left_running: exec.left_running,
    cwd: exec.cwd,
    started_at: exec.started_at,
    duration_ms: exec.duration_ms,
    stdout: stdout.text,
    stderr: stderr.text,
    stdout_bytes: exec.stdout_bytes,
    stderr_bytes: exec.stderr_bytes,
    stdout_next: stdout.next,
    stderr_next: stderr.next,
    ...(omitted.length > 0 && { omitted }),
    ...(notes.length > 0 && { notes }),
    event_cursor: context.eventCursor,
  };
}
