import type { GuestExec } from "./guest/types.ts";

/** What notes are made from besides the exec. */
export interface NoteContext {
  memoryMb: number;
  /** `timeout_s` of the call that started it. */
  timeoutMs?: number | undefined;
  ttlRemainingMs?: number | undefined;
}

const noNetwork =
  /could not resolve host|temporary failure in name resolution|network is unreachable|name or service not known|getaddrinfo (?:EAI_AGAIN|ENOTFOUND)|bad address '|no address associated with hostname/i;

/** Pure: what an agent would puzzle over, in words. */
export function execNotes(
  exec: GuestExec,
  texts: { stdout: string; stderr: string },
  { memoryMb, timeoutMs, ttlRemainingMs }: NoteContext,
): string[] {
  const notes: string[] = [];
  if (exec.status === "oom_killed") {
    notes.push(`Killed for lack of memory: the sandbox has ${memoryMb} MiB. Raise it with sandbox_update or use less.`);
  } else if (exec.oom_kills > 0) {
    notes.push(`${exec.oom_kills} process(es) of this exec were killed for lack of memory (${memoryMb} MiB).`);
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
  if (exec.status === "running" && timeoutMs !== undefined && ttlRemainingMs !== undefined) {
    // Both count from now: what has run already is not waited for again.
    if (ttlRemainingMs < timeoutMs - exec.duration_ms) {
      notes.push(
        `The sandbox's ttl ends in ${Math.ceil(ttlRemainingMs / 1000)} s, before timeout_s; sandbox_update extends it.`,
      );
    }
  }
  return notes;
}
