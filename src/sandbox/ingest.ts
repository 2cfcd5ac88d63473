import type { Core } from "./core.ts";
import { applyFacts, completeExec } from "./facts.ts";
import type { Guest, GuestExec, GuestFacts } from "./guest/types.ts";
import { isTerminal } from "./lifecycle.ts";
import type { ExecRecord } from "./store/types.ts";
import { deadline } from "./wait.ts";

/** Journals what a guest told, once, whoever else read the same facts. Resolves after the commit. */
export async function ingest(core: Core, sandboxId: string, facts: GuestFacts, guest: Guest): Promise<void> {
  const record = core.store.sandbox(sandboxId);
  if (!record || isTerminal(record.state)) return;
  const newest = facts.facts.at(-1)?.seq ?? 0;
  if (newest <= record.fact_cursor) return;
  const lost = facts.oldest > record.fact_cursor + 1 && record.fact_cursor > 0;
  await core.store.write((tx) => applyFacts(tx, sandboxId, facts.facts));
  // The guest's log is bounded: ends of execs may have left it before anyone read them.
  if (lost) await settleExecs(core, sandboxId, guest);
}

/** Reads and journals every fact the guest has beyond the record's cursor. */
export async function drainFacts(core: Core, sandboxId: string, guest: Guest, signal: AbortSignal): Promise<void> {
  for (;;) {
    const cursor = core.store.sandbox(sandboxId)?.fact_cursor;
    if (cursor === undefined) return;
    const facts = await guest.facts(cursor, 0, signal);
    if (facts.facts.length === 0) return;
    await ingest(core, sandboxId, facts, guest);
    if ((core.store.sandbox(sandboxId)?.fact_cursor ?? 0) <= cursor) return;
  }
}

/** Compares execs believed to run with what the guest knows, after facts were lost. */
async function settleExecs(core: Core, sandboxId: string, guest: Guest): Promise<void> {
  const open = core.store.openExecs(sandboxId);
  if (open.length === 0) return;
  const known = new Map((await guest.listExecs()).map((exec) => [exec.exec_id, exec]));
  await core.store.write((tx) => {
    for (const { exec_id } of open) {
      const exec = tx.exec(sandboxId, exec_id);
      const now = known.get(exec_id);
      if (!exec || exec.completed || now?.status === "running") continue;
      completeExec(tx, exec, now ? completion(now) : lostCompletion(), now?.omitted_bytes ?? null, { kind: "guest" });
    }
  });
}

function completion(exec: GuestExec): NonNullable<ExecRecord["completed"]> {
  return {
    status: exec.status === "running" ? "lost" : exec.status,
    exit_code: exec.exit_code,
    ...(exec.signal && { signal: exec.signal }),
    ended_by: exec.ended_by ?? "sandbox",
    oom_kills: exec.oom_kills,
    duration_ms: exec.duration_ms,
    stdout_bytes: exec.stdout_bytes,
    stderr_bytes: exec.stderr_bytes,
    at: exec.ended_at ?? new Date().toISOString(),
  };
}

/** For an exec whose outcome died with whoever knew it. */
export function lostCompletion(): NonNullable<ExecRecord["completed"]> {
  return {
    status: "lost",
    exit_code: null,
    ended_by: "sandbox",
    oom_kills: 0,
    duration_ms: null,
    stdout_bytes: null,
    stderr_bytes: null,
    at: new Date().toISOString(),
  };
}

/** Reads what a guest still has to tell before it goes; never longer than a second. */
export async function lastFacts(core: Core, sandboxId: string): Promise<void> {
  const guest = core.connections.peek(sandboxId);
  if (guest) await drainFacts(core, sandboxId, guest, deadline(1_000)).catch(() => {});
}
