import { hasCode } from "../errors.ts";
import type { Core } from "./core.ts";
import { applyFacts, completeExec } from "./facts.ts";
import { mayGather } from "./file-changes.ts";
import type { Guest, GuestExec, GuestFact, GuestFacts } from "./guest/types.ts";
import { isTerminal } from "./lifecycle.ts";
import type { ExecRecord } from "./store/types.ts";
import { abortable, deadline } from "./wait.ts";

/**
 * Journals what a guest told, once, whoever else read the same facts. Costs no transaction when another did already. Resolves
 * after the commit.
 * @param options.gather leaves facts that only tell of changed files to later, unless it is time for them. @default false
 */
export async function ingest(
  core: Core,
  sandboxId: string,
  facts: GuestFacts,
  guest: Guest,
  { gather = false } = {},
): Promise<void> {
  const record = core.store.sandbox(sandboxId);
  if (!record || isTerminal(record.state)) return;
  const newest = facts.facts.at(-1)?.seq ?? 0;
  if (newest <= record.fact_cursor) return;
  // The guest's log is bounded: starts and ends of execs may have left it before anyone read them.
  const unseen = facts.oldest > record.fact_cursor + 1 ? await unseenExecs(core, sandboxId, guest, facts) : undefined;
  await core.store.write((tx) => {
    if (gather && mayGather(tx.sandbox(sandboxId), facts.facts)) return;
    applyFacts(core, tx, sandboxId, [...(unseen?.starts ?? []), ...facts.facts]);
    for (const { exec_id, now } of unseen?.ends ?? []) {
      const exec = tx.exec(sandboxId, exec_id);
      if (!exec || exec.completed) continue;
      completeExec(tx, exec, now ? completion(now) : lostCompletion(), now?.omitted_bytes ?? null, { kind: "guest" });
    }
  });
}

/** A guest keeps 1024 facts and gives 256 at once: one page more than that is one for what happens meanwhile. */
const mostPages = 5;
const drainMs = 2_000;

/**
 * Reads and journals the facts that the guest has at this moment beyond the record's cursor. A captured guest always has one more:
 * what it tells meanwhile is left to the keeper, and so is what does not come within {@link drainMs}, which is TIMEOUT.
 */
export async function drainFacts(core: Core, sandboxId: string, guest: Guest, signal: AbortSignal): Promise<void> {
  const limit = deadline(drainMs, signal);
  let newest = Number.POSITIVE_INFINITY;
  for (let page = 0; page < mostPages; page++) {
    const cursor = core.store.sandbox(sandboxId)?.fact_cursor;
    if (cursor === undefined || cursor >= newest) return;
    const facts = await guest.facts(cursor, 0, limit);
    if (facts.facts.length === 0) return;
    newest = Math.min(newest, facts.next - 1);
    await abortable(ingest(core, sandboxId, facts, guest), limit);
    if ((core.store.sandbox(sandboxId)?.fact_cursor ?? 0) <= cursor) return;
  }
}

/**
 * For answers that say by themselves how the execs are: facts that are slow to come, or find the disk full, stay with the guest until
 * the keeper journals them.
 */
export function orLater(error: unknown): void {
  if (!hasCode(error, "TIMEOUT", "LIMIT_EXCEEDED")) throw error;
}

/** Whether the guest had more than this page. */
export const isCut = ({ facts, next }: GuestFacts): boolean => (facts.at(-1)?.seq ?? next) < next - 1;

interface Unseen {
  /** As facts of their own, without what only the lost ones had. */
  starts: GuestFact[];
  ends: { exec_id: string; now: GuestExec | undefined }[];
}

/**
 * What the guest still knows of execs whose facts are gone: those that nobody knew of, and those believed to run that it says do
 * not.
 */
async function unseenExecs(
  core: Core,
  sandboxId: string,
  guest: Guest,
  { facts, oldest }: GuestFacts,
): Promise<Unseen> {
  const { store } = core;
  // Those open before the guest is asked: one that starts meanwhile is missing from its answer and has not ended.
  const open = store.openExecs(sandboxId);
  const first = facts.find(({ seq }) => seq === oldest);
  const all = (await guest.listExecs()).reverse();
  // What started after the oldest fact that is kept has a fact of its own, which tells more.
  const kept = new Set(facts.map((fact) => (fact.kind === "exec.started" ? fact.exec_id : "")));
  const lost = all.filter(
    ({ exec_id, started_at }) =>
      !kept.has(exec_id) && !store.exec(sandboxId, exec_id) && first && started_at <= first.at,
  );
  // Where it ran is left out like its words: the list shows it with the values of the env that a fact hides.
  const starts = lost.map(({ exec_id, tty, started_at: at }, i): GuestFact => {
    return { seq: oldest - lost.length + i, at, kind: "exec.started", exec_id, command: "", cwd: "", tty };
  });
  const known = new Map(all.map((exec) => [exec.exec_id, exec]));
  const ends = [...open, ...lost]
    .map(({ exec_id }) => ({ exec_id, now: known.get(exec_id) }))
    .filter(({ now }) => now?.status !== "running");
  return { starts, ends };
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
export function lostCompletion(at = new Date().toISOString()): NonNullable<ExecRecord["completed"]> {
  return {
    status: "lost",
    exit_code: null,
    ended_by: "sandbox",
    oom_kills: 0,
    duration_ms: null,
    stdout_bytes: null,
    stderr_bytes: null,
    at,
  };
}

/** Reads what a guest still has to tell before it goes; never longer than a second. */
export async function lastFacts(core: Core, sandboxId: string): Promise<void> {
  const guest = core.connections.peek(sandboxId);
  if (guest) await drainFacts(core, sandboxId, guest, deadline(1_000)).catch(() => {});
}
