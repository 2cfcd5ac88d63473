import type { Actor, JournaledType, SandboxEvent } from "./events.ts";
import type { GuestFact } from "./guest/types.ts";
import { isExecIdOf } from "./ids.ts";
import { isTerminal } from "./lifecycle.ts";
import { redactCommand } from "./redact.ts";
import type { ExecRecord, SandboxRecord, Tx } from "./store/types.ts";

/** What the server sends along with an exec and finds again in the guest's facts. */
export interface ExecMeta {
  client?: string;
  traceparent?: string;
}

/**
 * Turns facts of a guest into state and events, inside one transaction. Whoever reads them, each counts once: only facts above
 * the record's cursor are taken, and the cursor moves with them. Facts are untrusted: they can tell of their own sandbox only, of
 * execs that a server of the install started, and of everything else so often.
 * @param pauser who asked for a pause or its end that the facts tell of. @default the guest
 */
export function applyFacts(
  tx: Tx,
  install: string,
  sandboxId: string,
  facts: readonly GuestFact[],
  pauser: Actor = { kind: "guest" },
): void {
  const before = tx.sandbox(sandboxId);
  if (!before || isTerminal(before.state)) return;
  let record = before;
  for (const fact of facts) {
    if (fact.seq <= record.fact_cursor) continue;
    record = { ...record, fact_cursor: fact.seq };
    if (!isMadeUp(install, fact)) record = applyFact(tx, record, fact, pauser);
  }
  // Once for all of them: a record has many indexes, and an exec is two facts.
  if (record !== before) tx.putSandbox(record);
}

/** Tells the fact; returns the record as it is after it. */
function applyFact(tx: Tx, record: SandboxRecord, fact: GuestFact, pauser: Actor): SandboxRecord {
  const id = record.sandbox_id;
  switch (fact.kind) {
    case "boot":
      return { ...record, guest_version: fact.version };
    case "exec.started": {
      if (tx.exec(id, fact.exec_id)) return record;
      const meta = parseMeta(fact.meta);
      const command = redactCommand(fact.command);
      const entry = tx.emit(id, {
        type: "exec.started",
        data: { exec_id: fact.exec_id, command, cwd: fact.cwd, tty: fact.tty },
        actor: { kind: "agent", ...(meta.client && { client: meta.client }) },
        ...(meta.traceparent && { traceparent: meta.traceparent }),
      });
      tx.putExec({
        exec_id: fact.exec_id,
        sandbox_id: id,
        command,
        cwd: fact.cwd,
        tty: fact.tty,
        started_at: fact.at,
        started_event: entry.id,
        ...(meta.traceparent && { traceparent: meta.traceparent }),
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
      completeExec(
        tx,
        exec,
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
      return record;
    }
    case "oom": {
      const limit = { kind: "memory", limit: null, observed: fact.oom_kills, action: "killed" } as const;
      return tellUnasked(tx, record, fact.exec_id, "oom", (exec_id) => ({
        type: "limit.oom",
        data: { ...limit, ...(exec_id && { exec_id }) },
      }));
    }
    case "limit": {
      const { limit: kind, max, observed } = fact;
      if (!isOneOf(limitKinds, kind)) return record;
      const limit = { kind, limit: max ?? null, observed: observed ?? null, action: actions[kind] };
      return tellUnasked(tx, record, fact.exec_id, undefined, (exec_id) => ({
        type: "limit.reached",
        data: { ...limit, ...(exec_id && { exec_id }) },
      }));
    }
    case "lease.expiring":
      return tellUnasked(tx, record, undefined, "expiring", () => ({
        type: "lifecycle.expiring",
        data: { kind: fact.lease, in_s: Math.round(fact.in_ms / 1000) },
      }));
    case "lease.over":
      if (fact.lease === "boot" || record.ending) return record;
      // By this host's clock: what the keeper measures from.
      return { ...record, ending: { reason: fact.lease, at: new Date().toISOString() } };
    case "paused":
    case "resumed": {
      const paused = fact.kind === "paused";
      if ((record.state === "paused") === paused || record.state === "creating") return record;
      if (pauser.kind === "guest") {
        if (!mayTell(record)) return record;
        return changePaused(tx, counted(record), paused, pauser);
      }
      return changePaused(tx, record, paused, pauser);
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
    cause: (limited && exec.limit_event) || exec.started_event,
    ...(exec.traceparent && { traceparent: exec.traceparent }),
  });
}

/** Moves between running and paused, with its event; returns the record after it. */
export function changePaused(tx: Tx, record: SandboxRecord, paused: boolean, actor: Actor): SandboxRecord {
  const state = paused ? "paused" : "running";
  const after: SandboxRecord = { ...record, state };
  tx.putSandbox(after);
  tx.emit(record.sandbox_id, {
    type: paused ? "lifecycle.paused" : "lifecycle.resumed",
    data: { changed: { state: { old: record.state, new: state } } },
    actor,
  });
  return after;
}

const limitKinds = ["cpu", "pids", "workspace", "time", "output"] as const;
const actions = { cpu: "throttled", pids: "none", workspace: "none", time: "killed", output: "none" } as const;

const isOneOf = <T extends string>(known: readonly T[], word: string): word is T => known.some((one) => one === word);

/** Events a guest may make by itself in its sandbox's life: an honest one makes a few, a captured one must not fill the journal. */
const mostUnasked = 1_000;

const mayTell = (record: SandboxRecord): boolean => (record.told?.count ?? 0) < mostUnasked;
const counted = (record: SandboxRecord): SandboxRecord => ({
  ...record,
  told: { ...record.told, count: (record.told?.count ?? 0) + 1 },
});

type Told<T extends JournaledType> = { type: T; data: Extract<SandboxEvent, { type: T }>["data"] };

/** Tells what the guest says without having been asked; of an exec when it is one it may speak of. Returns the record after it. */
function tellUnasked(
  tx: Tx,
  record: SandboxRecord,
  execId: string | null | undefined,
  leadsTo: "oom" | "expiring" | undefined,
  told: (execId?: string) => Told<"limit.oom"> | Told<"limit.reached"> | Told<"lifecycle.expiring">,
): SandboxRecord {
  if (!mayTell(record)) return record;
  const id = record.sandbox_id;
  const exec = execId ? tx.exec(id, execId) : undefined;
  const event = told(exec?.exec_id);
  const entry = tx.emit(id, {
    ...event,
    actor: { kind: "guest" },
    ...(exec && { cause: exec.started_event }),
    ...(exec?.traceparent && { traceparent: exec.traceparent }),
  });
  if (exec && !exec.completed && "action" in event.data && event.data.action === "killed")
    tx.putExec({ ...exec, limit_event: entry.id });
  const after = counted(record);
  return leadsTo ? { ...after, told: { count: 0, ...after.told, [leadsTo]: entry.id } } : after;
}

/** Of an exec that no server of the install started. */
const isMadeUp = (install: string, fact: GuestFact): boolean =>
  (fact.kind === "exec.started" || fact.kind === "exec.ended") && !isExecIdOf(install, fact.exec_id);

const earliest = (a: string, b: string): string => (a < b ? a : b);
const latest = (a: string, b: string): string => (a > b ? a : b);

/** The guest only echoes what a server sent, but a captured guest may echo anything. */
function parseMeta(meta: unknown): ExecMeta {
  if (typeof meta !== "object" || meta === null) return {};
  const { client, traceparent } = meta as Record<string, unknown>;
  return {
    ...(typeof client === "string" && { client: client.slice(0, 200) }),
    ...(typeof traceparent === "string" &&
      /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent) && { traceparent }),
  };
}
