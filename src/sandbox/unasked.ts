import type { Core } from "./core.ts";
import type { EventData, LimitKind } from "./events.ts";
import type { GuestFact } from "./guest/types.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";

/**
 * What a guest tells without having been asked, and how often: an honest one does so now and then, a captured one must not fill the
 * journal.
 */

type LimitFact = Extract<GuestFact, { kind: "oom" | "limit" }>;

/** Events of each sort in a sandbox's life. */
const mostUnasked = 1_000;

const sorts = {
  count: "a guest told as much unasked as it may: no more pauses, and of limits the first of each kind of an exec only",
  notices: "a guest told of the end of its lease as often as it may: no more notices",
} as const;

/** The record with one event more of the sort; undefined when there may be none. */
export function counted(core: Core, record: SandboxRecord, sort: keyof typeof sorts): SandboxRecord | undefined {
  const count = (record.told?.[sort] ?? 0) + 1;
  if (count > mostUnasked) return undefined;
  if (count === mostUnasked) core.logger.warn({ sandbox_id: record.sandbox_id }, sorts[sort]);
  return { ...record, told: { count: 0, ...record.told, [sort]: count } };
}

/** Tells that a limit was met; of an exec when it is one the guest may speak of. Returns the record after it. */
export function tellLimit(core: Core, tx: Tx, record: SandboxRecord, fact: LimitFact): SandboxRecord {
  const met = limitMet(fact, record);
  if (!met) return record;
  const id = record.sandbox_id;
  const exec = fact.exec_id ? tx.exec(id, fact.exec_id) : undefined;
  const { kind, action } = met;
  // The first of a kind of each exec is bounded by what servers start, however long the sandbox lives.
  const after = exec && !exec.limits?.includes(kind) ? record : counted(core, record, "count");
  if (!after) return record;
  const data = { ...met, ...(exec && { exec_id: exec.exec_id }) };
  const entry = tx.emit(id, {
    ...(fact.kind === "oom"
      ? { type: "limit.oom", data: { ...data, kind: "memory" } }
      : { type: "limit.reached", data }),
    actor: { kind: "guest" },
    at: fact.at,
    ...(exec && { cause: exec.started_event }),
    ...(exec?.traceparent && { traceparent: exec.traceparent }),
  });
  if (exec) {
    const ends = action === "killed" && !exec.completed;
    const limits = [...new Set([...(exec.limits ?? []), kind])];
    tx.putExec({ ...exec, limits, ...(ends && { limit_event: entry.id }) });
  }
  if (fact.kind !== "oom") return after;
  const unclaimed = exec ? {} : { unclaimed_oom: entry.id };
  return { ...after, told: { count: 0, ...after.told, oom: entry.id, ...unclaimed } };
}

/** Tells that a lease nears its end. Never kept back by how often limits were met. */
export function tellExpiring(
  core: Core,
  tx: Tx,
  record: SandboxRecord,
  { lease, in_ms, at }: Extract<GuestFact, { kind: "lease.expiring" }>,
): SandboxRecord {
  const after = counted(core, record, "notices");
  if (!after) return record;
  const entry = tx.emit(record.sandbox_id, {
    type: "lifecycle.expiring",
    data: { kind: lease, in_s: Math.round(in_ms / 1000) },
    actor: { kind: "guest" },
    at,
  });
  return { ...after, told: { count: 0, ...after.told, [lease]: entry.id } };
}

interface Met {
  kind: LimitKind;
  limit: number | null;
  observed: number | null;
  action: EventData<"limit.reached">["action"];
}

const limitKinds = ["cpu", "pids", "workspace", "time", "output"] as const;
const actions = { cpu: "throttled", pids: "none", workspace: "none", time: "killed", output: "none" } as const;

/** Undefined for a kind that a newer guest knows of. */
function limitMet(fact: LimitFact, { resources }: SandboxRecord): Met | undefined {
  if (fact.kind === "oom") {
    return { kind: "memory", limit: resources.memory_mb * 2 ** 20, observed: fact.oom_kills, action: "killed" };
  }
  const { limit: kind, max, observed } = fact;
  if (!isOneOf(limitKinds, kind)) return undefined;
  return { kind, limit: max ?? null, observed: observed ?? null, action: actions[kind] };
}

const isOneOf = <T extends string>(known: readonly T[], word: string): word is T => known.some((one) => one === word);
