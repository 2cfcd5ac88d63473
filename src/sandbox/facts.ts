import { type Asked, askedBy, isNews } from "./asked.ts";
import { trace } from "./caller.ts";
import type { Core } from "./core.ts";
import type { Actor } from "./events.ts";
import { type ChangesFact, tellChanges } from "./file-changes.ts";
import type { GuestFact } from "./guest/types.ts";
import { isExecIdOf, mostToldBetween, toldBefore } from "./ids.ts";
import { earliest, isTerminal, latest } from "./lifecycle.ts";
import { redactCommand } from "./redact.ts";
import type { ExecRecord, SandboxRecord, Tx } from "./store/types.ts";
import { counted, tellExpiring, tellLimit } from "./unasked.ts";

/**
 * Turns facts of a guest into state and events, inside one transaction. Whoever reads them, each counts once: only facts above
 * the record's cursor are taken, and the cursor moves with them. Facts are untrusted: they can tell of their own sandbox only, of
 * execs that a server of the install started and changes of files that one asked for, of each once, and of everything else so
 * often.
 */
export function applyFacts(core: Core, tx: Tx, sandboxId: string, facts: readonly GuestFact[]): void {
  const before = tx.sandbox(sandboxId);
  if (!before || isTerminal(before.state)) return;
  let record = before;
  // Changed files that follow upon each other are one event, which stands before whatever came after them.
  let changed: ChangesFact[] = [];
  for (const fact of facts) {
    if (fact.seq <= record.fact_cursor) continue;
    record = { ...record, fact_cursor: fact.seq };
    if (isMadeUp(core.store.installId, fact)) continue;
    if (fact.kind === "files") {
      if (isNews(core, tx, record, fact)) changed.push(fact);
      continue;
    }
    record = applyFact(core, tx, tellChanges(tx, record, changed), fact);
    changed = [];
  }
  record = tellChanges(tx, record, changed);
  // Once for all of them: a record has many indexes, and an exec is two facts.
  if (record !== before) tx.putSandbox(record);
}

/** Tells the fact; returns the record as it is after it. */
function applyFact(core: Core, tx: Tx, record: SandboxRecord, fact: GuestFact): SandboxRecord {
  const id = record.sandbox_id;
  switch (fact.kind) {
    case "boot":
      return { ...record, guest_version: fact.version };
    case "exec.started": {
      if (isReplayed(record, fact.exec_id) || tx.exec(id, fact.exec_id)) return record;
      const by = askedBy(fact.meta);
      const startedAt = fact.started_at ?? fact.at;
      const command = redactCommand(fact.command);
      const data = { exec_id: fact.exec_id, command, cwd: fact.cwd, tty: fact.tty };
      const entry = tx.emit(id, { type: "exec.started", data, at: startedAt, ...by });
      tx.putExec({
        exec_id: fact.exec_id,
        sandbox_id: id,
        ordinal: record.execs_total + 1,
        command,
        cwd: fact.cwd,
        tty: fact.tty,
        started_at: startedAt,
        started_event: entry.id,
        ...trace(by),
      });
      const now = new Date().toISOString();
      return {
        ...record,
        execs_total: record.execs_total + 1,
        last_used_at: latest(record.last_used_at, earliest(fact.at, now)),
        last_command: command,
      };
    }
    case "exec.ended": {
      const exec = tx.exec(id, fact.exec_id);
      if (!exec || exec.completed) return record;
      const { unclaimed_oom, ...told } = record.told ?? { count: 0 };
      const claims = unclaimed_oom !== undefined && fact.ended_by === "oom" && !exec.limits?.includes("memory");
      completeExec(
        tx,
        claims ? { ...exec, limit_event: unclaimed_oom } : exec,
        {
          status: fact.status,
          exit_code: fact.exit_code,
          ...(fact.signal && { signal: fact.signal }),
          ended_by: fact.ended_by,
          oom_kills: fact.oom_kills,
          duration_ms: fact.duration_ms,
          stdout_bytes: fact.stdout_bytes,
          stderr_bytes: fact.stderr_bytes,
          at: fact.at,
        },
        fact.omitted_bytes,
        { kind: "guest" },
      );
      return claims ? { ...record, told } : record;
    }
    case "oom":
    case "limit":
      return tellLimit(core, tx, record, fact);
    case "lease.expiring":
      return tellExpiring(core, tx, record, fact);
    case "lease.over":
      if (fact.lease === "boot" || record.ending) return record;
      // By this host's clock: what the keeper measures from.
      return { ...record, ending: { reason: fact.lease, at: new Date().toISOString(), ...usedOf(fact) } };
    case "shutdown":
      return record.ending ? { ...record, ending: { ...usedOf(fact), ...record.ending } } : record;
    case "paused":
    case "resumed": {
      const paused = fact.kind === "paused";
      if ((record.state === "paused") === paused || record.state === "creating") return record;
      if (!isNews(core, tx, record, fact)) {
        const after = counted(core, record, "count");
        return after ? changePaused(tx, after, paused, { actor: { kind: "guest" } }, fact.at) : record;
      }
      const changes = { ...record.changes, told: (record.changes?.told ?? 0) + 1 };
      return changePaused(tx, { ...record, changes }, paused, askedBy(fact.meta), fact.at);
    }
    default:
      return record;
  }
}

/** Tells an exec's end once: the record is marked in the same transaction. */
export function completeExec(
  tx: Tx,
  exec: ExecRecord,
  completed: NonNullable<ExecRecord["completed"]>,
  omittedBytes: number | null,
  actor: Actor,
): void {
  const limited = completed.ended_by === "timeout" || completed.ended_by === "oom";
  tx.putExec({ ...exec, completed });
  tx.emit(exec.sandbox_id, {
    type: "exec.completed",
    data: {
      exec_id: exec.exec_id,
      command: exec.command,
      status: completed.status,
      exit_code: completed.exit_code,
      ...(completed.signal && { signal: completed.signal }),
      ended_by: completed.ended_by,
      duration_ms: completed.duration_ms === null ? null : Math.round(completed.duration_ms),
      stdout_bytes: completed.stdout_bytes,
      stderr_bytes: completed.stderr_bytes,
      omitted_bytes: omittedBytes,
    },
    actor,
    at: completed.at,
    cause: (limited && exec.limit_event) || exec.started_event,
    ...(exec.traceparent && { traceparent: exec.traceparent }),
  });
}

/** Moves between running and paused, with its event; returns the record after it. */
export function changePaused(
  tx: Tx,
  record: SandboxRecord,
  paused: boolean,
  asked: Asked,
  at = new Date().toISOString(),
): SandboxRecord {
  const state = paused ? "paused" : "running";
  const after: SandboxRecord = { ...record, state };
  tx.putSandbox(after);
  tx.emit(record.sandbox_id, {
    type: paused ? "lifecycle.paused" : "lifecycle.resumed",
    data: { changed: { state: { old: record.state, new: state } } },
    at,
    ...asked,
  });
  return after;
}

const usedOf = ({ cpu_ms, peak_memory_bytes }: { cpu_ms?: number | null; peak_memory_bytes?: number | null }) => ({
  ...(cpu_ms !== undefined && { cpu_ms: cpu_ms === null ? null : Math.round(cpu_ms) }),
  ...(peak_memory_bytes !== undefined && { peak_memory_bytes }),
});

/** Of an exec that no server of the install started. */
const isMadeUp = (install: string, fact: GuestFact): boolean =>
  (fact.kind === "exec.started" || fact.kind === "exec.ended") && !isExecIdOf(install, fact.exec_id);

const isReplayed = (record: SandboxRecord, execId: string): boolean =>
  record.execs_total - toldBefore(execId) > mostToldBetween;
