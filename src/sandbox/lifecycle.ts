import { quoted, SandboxError } from "../errors.ts";
import type { EndReason, SandboxState } from "./events.ts";
import type { ProcessTable, SandboxRecord } from "./store/types.ts";

/** Pure rules of a sandbox's life: `creating → running ⇄ paused → ended`, or `failed` before ready. */

export const isTerminal = (state: SandboxState): boolean => state === "ended" || state === "failed";

/** A sandbox that a live process is creating is that process' business, until someone asks for its end. */
export const inOtherHands = (record: SandboxRecord, processes: Pick<ProcessTable, "alive">): boolean =>
  record.state === "creating" && record.ending === undefined && processes.alive(record.creator);

/** Exit codes of the guest, guest/API.md. */
export const guestExit = { asked: 0, ttl: 80, idle: 81, boot: 82, setup: 84 } as const;

/** Why a sandbox is over, from what was asked and how its PID 1 went. */
export function endReason(record: SandboxRecord, exitCode: number | null): { reason: EndReason; expected: boolean } {
  if (record.ending) return { reason: record.ending.reason, expected: true };
  if (exitCode === guestExit.ttl) return { reason: "ttl", expected: true };
  if (exitCode === guestExit.idle) return { reason: "idle", expected: true };
  // Never claimed: whoever created it died before it was usable.
  if (exitCode === guestExit.boot) return { reason: "reconciled", expected: true };
  return { reason: "died", expected: false };
}

/**
 * Whether it is over for lack of memory. An engine says of all its life only that some process in it was killed for memory: the
 * exec that was an hour ago does not make a destroy such an end.
 */
export const diedOfMemory = (reason: EndReason, exitCode: number | null, oomKilled: boolean): boolean =>
  oomKilled && reason === "died" && exitCode === 137;

/** Exit codes above 128 of a process that a signal ended. */
export function exitSignal(exitCode: number | null): string | undefined {
  if (exitCode === 137) return "KILL";
  if (exitCode === 143) return "TERM";
  if (exitCode === 139) return "SEGV";
  return undefined;
}

const reasonWords: Record<EndReason | "failed", string> = {
  request: "it was destroyed on request",
  ttl: "its ttl_s was over",
  idle: "it was idle for longer than idle_s",
  died: "it died",
  reconciled: "it was gone when a server looked for it",
  policy: "the policy ended it",
  failed: "it could not be created",
};

/** Throws the error that fits unless commands can run in the sandbox now. */
export function requireRunning(record: SandboxRecord): void {
  requireUnending(record);
  if (record.state === "running") return;
  requireBorn(record);
  throw new SandboxError("SANDBOX_NOT_RUNNING", `Sandbox ${label(record)} is paused.`, {
    next: `Call sandbox_update {"sandbox_id":"${record.sandbox_id}","paused":false} to resume it.`,
  });
}

/** Throws SANDBOX_NOT_RUNNING while it is being created. */
export function requireBorn(record: SandboxRecord): void {
  if (record.state !== "creating") return;
  throw new SandboxError("SANDBOX_NOT_RUNNING", `Sandbox ${label(record)} is still being created.`, {
    next: `Call sandbox_get {"sandbox_id":"${record.sandbox_id}","wait_s":30} to wait until it is running.`,
    retryable: true,
  });
}

/** Throws the error that fits unless there is an inside to look at: running or paused. */
export function requireInside(record: SandboxRecord): void {
  requireLive(record);
  requireBorn(record);
}

/** Throws SANDBOX_ENDED for what has ended and for what is about to. */
export function requireUnending(record: SandboxRecord): void {
  requireLive(record);
  if (!record.ending) return;
  throw new SandboxError("SANDBOX_ENDED", `Sandbox ${label(record)} is ending: ${reasonWords[record.ending.reason]}.`);
}

/** Why a sandbox is over, in words. */
export const endWords = ({ ended }: SandboxRecord): string => reasonWords[ended?.reason ?? "died"];

/** Throws SANDBOX_ENDED with why and when, unless the sandbox is creating, running or paused. */
export function requireLive(record: SandboxRecord): void {
  if (!isTerminal(record.state)) return;
  const ended = record.ended;
  const why = reasonWords[ended?.reason ?? "died"];
  const oom = ended?.oom_killed ? ", out of memory" : "";
  const message = ended?.message ? ` (${ended.message})` : "";
  throw new SandboxError(
    "SANDBOX_ENDED",
    `Sandbox ${label(record)} ended at ${ended?.at ?? "an unknown time"}: ${why}${oom}${message}.`,
  );
}

const label = (record: SandboxRecord): string =>
  record.name ? `${quoted(record.name, 64)} (${record.sandbox_id})` : record.sandbox_id;

/** Of two times as events tell them. */
export const earliest = (a: string, b: string): string => (a < b ? a : b);
export const latest = (a: string, b: string): string => (a > b ? a : b);
