import { SandboxError } from "../errors.ts";
import type { BackendStatus } from "./backend.ts";
import { trace } from "./caller.ts";
import type { Core, Used } from "./core.ts";
import type { Actor } from "./events.ts";
import { applyFacts, completeExec } from "./facts.ts";
import { parseFlightRecorder } from "./guest/flight-recorder.ts";
import { lostCompletion } from "./ingest.ts";
import { diedOfMemory, earliest, endReason, exitSignal, guestExit, isTerminal } from "./lifecycle.ts";
import type { SandboxRecord, Store, Tx } from "./store/types.ts";
import { deadline } from "./wait.ts";

const partingMs = 500;

/**
 * Brings a sandbox whose processes are gone to its end, exactly once, and removes what is left of it: facts from the flight
 * recorder, the end of every open exec, `died` and `destroyed` are durable before the shell goes. Any process may call it at any
 * time for any id; the transaction decides who tells.
 */
export function settleDeath(core: Core, sandboxId: string, status: BackendStatus | undefined): Promise<void> {
  const underWay = core.settling.get(sandboxId);
  if (underWay) return underWay;
  const work = settle(core, sandboxId, status).finally(() => core.settling.delete(sandboxId));
  core.settling.set(sandboxId, work);
  return work;
}

async function settle(core: Core, sandboxId: string, status: BackendStatus | undefined): Promise<void> {
  const record = core.store.sandbox(sandboxId);
  if (record && !isTerminal(record.state)) {
    const words = status ? await lastWords(core, sandboxId) : [];
    const facts = parseFlightRecorder(words);
    const told = await core.store.write(
      (tx) => {
        applyFacts(core, tx, sandboxId, facts);
        return endSandbox(tx, sandboxId, status, core.lastUsed.get(sandboxId));
      },
      { necessary: true },
    );
    core.lastUsed.delete(sandboxId);
    if (told) core.logger.info({ sandbox_id: sandboxId, ...told }, "sandbox ended");
  }
  await partWith(core, sandboxId);
  if (status) {
    await core.store.flushed();
    await core.backend.remove(sandboxId);
  }
}

/**
 * Gives up the session with a sandbox that has ended. An engine that was killed may take for ended what still runs: a guest that
 * answers past it is told to end.
 */
export async function partWith(core: Core, sandboxId: string): Promise<void> {
  const claim = core.store.sandbox(sandboxId)?.claim;
  const guest = core.connections.peek(sandboxId);
  await guest?.setLease({ ttl_ms: 1, ...(claim !== undefined && { claim }) }, deadline(partingMs)).catch(() => {});
  await core.connections.drop(sandboxId);
}

/** What the flight recorder holds. An engine that went away says nothing about it: then the end waits until it is back. */
async function lastWords(core: Core, sandboxId: string): Promise<string[]> {
  try {
    return await core.backend.lastWords(sandboxId);
  } catch (error) {
    if (SandboxError.from(error).code === "BACKEND_UNAVAILABLE") throw error;
    core.logger.warn({ err: error, sandbox_id: sandboxId }, "the flight recorder of a dead sandbox cannot be read");
    return [];
  }
}

/**
 * The terminal transition; returns how it ended if this call made it. `death` is undefined when the engine had nothing left.
 * @param lastUsed as of the newest sample of this process, for where nobody told it at the end
 */
function endSandbox(
  tx: Tx,
  sandboxId: string,
  death: BackendStatus | undefined,
  lastUsed: Used | undefined,
): Pick<NonNullable<SandboxRecord["ended"]>, "reason" | "exit_code" | "oom_killed"> | undefined {
  const record = tx.sandbox(sandboxId);
  if (!record || isTerminal(record.state)) return undefined;
  const exitCode = death?.exit_code ?? null;
  const { reason, expected } = death
    ? endReason(record, exitCode)
    : { reason: record.ending?.reason ?? ("reconciled" as const), expected: true };
  if (record.state === "creating" && reason !== "request") {
    failSandbox(tx, record, "start", {
      code: "INTERNAL",
      message:
        exitCode === guestExit.setup
          ? "The sandbox could not set itself up."
          : `It ended before it was ready${exitCode === null ? "" : `, exit code ${exitCode}`}.`,
      retryable: true,
    });
    return { reason: "failed", exit_code: exitCode, oom_killed: false };
  }
  const totals = {
    cpu_ms: record.ending?.cpu_ms ?? lastUsed?.cpu_ms ?? null,
    peak_memory_bytes: record.ending?.peak_memory_bytes ?? lastUsed?.peak_memory_bytes ?? null,
  };
  const now = new Date().toISOString();
  const at = earliest(death?.finished_at ?? now, now);
  loseOpenExecs(tx, sandboxId, at);
  const client = record.ending?.client;
  const actor: Actor = client === undefined ? { kind: "system" } : { kind: "agent", client };
  const signal = exitSignal(exitCode);
  const ended = {
    reason,
    exit_code: exitCode,
    oom_killed: diedOfMemory(reason, exitCode, death?.oom_killed ?? false),
  };
  tx.putSandbox({ ...record, state: "ended", ended: { at, ...ended, ...totals } });
  let cause = ledTo(record, ended);
  if (death) {
    cause = tx.emit(sandboxId, {
      type: "lifecycle.died",
      data: {
        exit_code: exitCode,
        ...(signal && { signal }),
        oom_killed: ended.oom_killed,
        expected,
        uptime_ms: record.ready_at ? Math.max(0, Date.parse(at) - Date.parse(record.ready_at)) : null,
      },
      actor: { kind: "engine" },
      at,
      ...trace(record.ending ?? {}),
      ...(cause && { cause }),
    }).id;
  }
  tx.emit(sandboxId, {
    type: "lifecycle.destroyed",
    data: {
      reason,
      totals: { ...totals, execs: record.execs_total },
    },
    actor,
    at,
    ...trace(record.ending ?? {}),
    ...(cause && { cause }),
  });
  return ended;
}

/** The event that this death follows from, when one was told. */
function ledTo(
  { told }: SandboxRecord,
  { reason, oom_killed }: Pick<NonNullable<SandboxRecord["ended"]>, "reason" | "oom_killed">,
): string | undefined {
  if (reason === "ttl" || reason === "idle") return told?.[reason];
  return oom_killed ? told?.oom : undefined;
}

/** Brings a sandbox that could not be made to its end. One whose end was asked for is told as destroyed by {@link settleDeath}. */
export function tellFailed(
  store: Store,
  sandboxId: string,
  stage: string,
  error: Parameters<typeof failSandbox>[3],
): Promise<void> {
  return store.write(
    (tx) => {
      const record = tx.sandbox(sandboxId);
      if (record?.state === "creating" && !record.ending) failSandbox(tx, record, stage, error);
    },
    { necessary: true },
  );
}

/** The other terminal transition: a sandbox that never became ready. */
function failSandbox(
  tx: Tx,
  record: SandboxRecord,
  stage: string,
  error: Pick<SandboxError, "code" | "message" | "retryable">,
): void {
  if (isTerminal(record.state)) return;
  loseOpenExecs(tx, record.sandbox_id);
  tx.putSandbox({
    ...record,
    state: "failed",
    ended: { at: new Date().toISOString(), reason: "failed", message: error.message, oom_killed: false },
  });
  tx.emit(record.sandbox_id, {
    type: "lifecycle.failed",
    data: { stage, code: error.code, message: error.message.slice(0, 1000), retryable: error.retryable },
    actor: { kind: "system" },
    ...trace(record),
    ...(record.request_id && { request_id: record.request_id }),
  });
}

function loseOpenExecs(tx: Tx, sandboxId: string, at = new Date().toISOString()): void {
  for (const exec of tx.openExecs(sandboxId)) completeExec(tx, exec, lostCompletion(at), null, { kind: "system" });
}
