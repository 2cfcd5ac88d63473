import { quoted, SandboxError } from "../errors.ts";
import type { Core } from "./core.ts";
import { endWords } from "./lifecycle.ts";
import type { ExecRecord, SandboxRecord } from "./store/types.ts";
import type { ExecResult, ExecRow } from "./views.ts";

/** What the store knows of execs, for when the guest does not. */

/** Ended execs whose output a guest keeps. */
const keptEnds = 128;

export function execRow(record: ExecRecord): ExecRow {
  const { completed } = record;
  return {
    exec_id: record.exec_id,
    command: record.command,
    status: completed?.status ?? "running",
    exit_code: completed?.status === "exited" ? completed.exit_code : null,
    started_at: record.started_at,
    duration_ms: completed?.duration_ms ?? null,
    stdout_bytes: completed?.stdout_bytes ?? null,
    stderr_bytes: completed?.stderr_bytes ?? null,
  };
}

/** An exec of a sandbox that has ended: how it went is known, its output went with the sandbox. */
export function pastExec(
  exec: ExecRecord,
  sandbox: SandboxRecord,
  offsets: { stdout: number; stderr: number },
  eventCursor: string,
): ExecResult {
  const { completed } = exec;
  const produced = { stdout: completed?.stdout_bytes ?? 0, stderr: completed?.stderr_bytes ?? 0 };
  const omitted = (["stdout", "stderr"] as const)
    .map((stream) => ({ stream, from: offsets[stream], to: produced[stream], recoverable: false }))
    .filter(({ from, to }) => from < to);
  const lost = completed?.status !== "lost" ? "" : " How this command ended is not known.";
  return {
    exec_id: exec.exec_id,
    status: completed?.status ?? "lost",
    exit_code: completed?.status === "exited" ? completed.exit_code : null,
    ...(completed?.signal !== undefined && { signal: completed.signal }),
    ...(completed && { ended_by: completed.ended_by }),
    oom_kills: completed?.oom_kills ?? 0,
    left_running: 0,
    cwd: exec.cwd,
    started_at: exec.started_at,
    duration_ms: completed?.duration_ms ?? elapsed(exec.started_at, completed?.at ?? sandbox.ended?.at),
    stdout: "",
    stderr: "",
    stdout_bytes: produced.stdout,
    stderr_bytes: produced.stderr,
    stdout_next: produced.stdout,
    stderr_next: produced.stderr,
    ...(omitted.length > 0 && { omitted }),
    notes: [`The sandbox has ended (${endWords(sandbox)}), and the output of its commands with it.${lost}`],
    event_cursor: eventCursor,
  };
}

const elapsed = (from: string, to: string | undefined): number =>
  to === undefined ? 0 : Math.max(0, Date.parse(to) - Date.parse(from));

/** EXEC_NOT_FOUND in words that fit: never heard of, or ended so long ago that the guest has forgotten it. */
export function unknownExec(core: Core, sandboxId: string, execId: string): SandboxError {
  const known = core.store.exec(sandboxId, execId);
  if (!known?.completed) {
    const shown = quoted(execId, 64);
    return new SandboxError("EXEC_NOT_FOUND", `Sandbox ${sandboxId} has no exec ${shown}.`, {
      next: `Call exec_list {"sandbox_id":"${sandboxId}"} to see the execs of this sandbox.`,
    });
  }
  const { status, exit_code, at } = known.completed;
  const how = status === "exited" ? `with exit code ${exit_code}` : status;
  return new SandboxError(
    "EXEC_NOT_FOUND",
    `Exec ${execId} ended at ${at}, ${how}, and its output is no longer kept: a sandbox remembers its last ${keptEnds} ended execs.`,
    { next: "Run the command again with exec_run, with its output into a file if it is to be read much later." },
  );
}
