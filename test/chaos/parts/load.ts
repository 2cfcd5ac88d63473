import { setTimeout as delay } from "node:timers/promises";
import type { Answer } from "../../support/server.ts";
import type { Chance } from "./chance.ts";
import type { Fates } from "./mishaps.ts";
import type { Session } from "./sessions.ts";

/** What tools answered, to be found in the journal afterwards. */
export interface Promised {
  /** Sandboxes that were created, as far as an answer said so. */
  created: Set<string>;
  /** Those that an answer said to run. */
  running: Set<string>;
  /** Those whose end was asked for, answered or not. */
  askedToEnd: Set<string>;
  destroyed: Set<string>;
  /** Files by sandbox and path, each path written once: whether an answer said so. */
  files: Map<string, Map<string, boolean>>;
  /** What commands were to print and exit with, and what answers said, by exec. */
  results: Map<string, { printed: string; exit: number; wrong?: string }>;
  /**
   * Execs by id. `endedBy`: the cursor of an answer that they had ended, so up to there their end had to be told.
   * `runningAt`: the cursor of one that they ran, so their end had to be told after it.
   */
  execs: Map<string, { sandbox: string; endedBy?: number; runningAt?: number }>;
}

/** Files that an answer said to be written. */
export const filesWritten = ({ files }: Promised): number =>
  [...files.values()].flatMap((written) => [...written.values()]).filter(Boolean).length;

export const nothingPromised = (): Promised => ({
  created: new Set(),
  running: new Set(),
  askedToEnd: new Set(),
  destroyed: new Set(),
  files: new Map(),
  results: new Map(),
  execs: new Map(),
});

export interface Load {
  sessions: readonly Session[];
  promised: Promised;
  fates: Fates;
  /** Live sandboxes as the callers know them, shared among all. */
  known: Set<string>;
  chance: Chance;
  signal: AbortSignal;
  /** Under way now. */
  creating: number;
  /** Numbers that make each command and each file one of its own. */
  serial: number;
}

const mostSandboxes = 4;
/** Creating is by far the most expensive thing to ask for. */
const mostCreating = 2;

/** Works as agents do, through every session at once, until the signal aborts. */
export async function load(load: Omit<Load, "creating" | "serial">): Promise<void> {
  const work = { ...load, creating: 0, serial: 0 };
  await Promise.all(work.sessions.flatMap((session) => [worker(work, session), worker(work, session)]));
}

async function worker(work: Load, session: Session): Promise<void> {
  const { known, chance, signal } = work;
  while (!signal.aborted) {
    const sandbox = known.size === 0 ? undefined : chance.one([...known]);
    const mayCreate = known.size + work.creating < mostSandboxes && work.creating < mostCreating;
    if (mayCreate && (sandbox === undefined || chance.is(0.1))) await create(work, session);
    else if (sandbox === undefined) await session.call("sandbox_list", {});
    else await use(work, session, sandbox);
    // Agents think in between; without a pause two cores do nothing but this.
    await delay(chance.between(5, 40));
  }
}

async function create(work: Load, session: Session): Promise<void> {
  const { known, promised, fates, chance } = work;
  work.creating += 1;
  const turns = fates.engineTurns;
  const wait_s = chance.one([0, 20]);
  // Shorter than the clocks jump: a lease on the wall clock would end by it.
  const lease = { ttl_s: 7_000, idle_s: 7_000 };
  // What is asked for as it is by default may be warm already.
  const size = chance.is(0.5) ? { memory_mb: 64, workspace_mb: 16 } : {};
  const answer = await session.call("sandbox_create", { ...size, wait_s, ...lease });
  const id = answer?.data["sandbox_id"];
  if (typeof id === "string") {
    promised.created.add(id);
    if (fates.engineTurns !== turns || turns % 2 === 1) fates.engineAway.add(id);
    const now = wait_s > 0 ? answer : await session.call("sandbox_get", { sandbox_id: id, wait_s: 20 });
    if (now?.data["state"] === "running") {
      promised.running.add(id);
      known.add(id);
    }
  }
  work.creating -= 1;
}

async function use(work: Load, session: Session, sandbox: string): Promise<void> {
  const { chance } = work;
  const dice = chance.whole(100);
  const args = { sandbox_id: sandbox };
  const ask = (tool: string, more: Record<string, unknown> = {}) =>
    call(work, session, sandbox, tool, { ...args, ...more });
  if (dice < 45) await echo(work, session, sandbox, dice % 3);
  else if (dice < 58) await ask("exec_run", { command: `sleep ${chance.between(0.1, 3).toFixed(1)}`, wait_s: 0 });
  else if (dice < 64) await ask("exec_run", { command: "sleep 30", timeout_s: 1, wait_s: 20 });
  else if (dice < 77) await write(work, session, sandbox);
  else if (dice < 80) await ask("sandbox_update", { labels: { step: String(dice) } });
  else if (dice < 83) await ask("sandbox_update", { paused: chance.is(0.2) });
  else if (dice < 87) await ask("sandbox_get");
  else if (dice < 90) await ask("sandbox_stats");
  else if (dice < 94) await ask("sandbox_events", { after: "now", wait_s: 1 });
  else if (dice < 97) await killSomething(work, session, sandbox);
  else await ask("sandbox_destroy");
}

/** A command that no other is like, with a result that is known before. */
async function echo(work: Load, session: Session, sandbox: string, exit: number): Promise<void> {
  const word = `n${++work.serial}`;
  const answer = await call(work, session, sandbox, "exec_run", {
    sandbox_id: sandbox,
    command: `echo ${word}; exit ${exit}`,
  });
  const { exec_id, status, exit_code, stdout } = answer?.data ?? {};
  if (typeof exec_id !== "string") return;
  const wrong = status === "exited" && (exit_code !== exit || stdout !== `${word}\n`);
  work.promised.results.set(exec_id, {
    printed: word,
    exit,
    ...(wrong && { wrong: JSON.stringify([exit_code, stdout]) }),
  });
}

async function write(work: Load, session: Session, sandbox: string): Promise<void> {
  const path = `f${++work.serial}`;
  const { files } = work.promised;
  const written = files.get(sandbox) ?? new Map<string, boolean>();
  files.set(sandbox, written);
  written.set(path, false);
  const answer = await call(work, session, sandbox, "file_write", {
    sandbox_id: sandbox,
    files: [{ path, content: "x".repeat(500) }],
  });
  if (answer && !answer.isError) written.set(path, true);
}

async function killSomething(work: Load, session: Session, sandbox: string): Promise<void> {
  const answer = await session.call("exec_list", { sandbox_id: sandbox });
  const rows = (answer?.data["execs"] ?? []) as { exec_id: string; status: string }[];
  const running = rows.find((row) => row.status === "running");
  if (running) await call(work, session, sandbox, "exec_kill", { sandbox_id: sandbox, exec_id: running.exec_id });
}

async function call(
  { promised, known, fates }: Load,
  session: Session,
  sandbox: string,
  tool: string,
  args: Record<string, unknown>,
): Promise<Answer | undefined> {
  if (tool === "sandbox_destroy") promised.askedToEnd.add(sandbox);
  const turns = fates.diskTurns;
  const answer = await session.call(tool, args);
  if (answer === undefined) return undefined;
  const { data, error } = answer;
  if (error && /SANDBOX_(ENDED|NOT_FOUND)/.test(error.code)) known.delete(sandbox);
  if (tool === "sandbox_destroy" && data["destroyed"] !== undefined) {
    promised.destroyed.add(sandbox);
    known.delete(sandbox);
  }
  const { exec_id, status, event_cursor } = data;
  if (typeof exec_id !== "string") return answer;
  const { runningAt, endedBy } = promised.execs.get(exec_id) ?? {};
  const cursor = Number(event_cursor);
  // What ends while nothing can be journaled is answered all the same, and told later.
  const toldLater = fates.diskTurns !== turns || turns % 2 === 1;
  promised.execs.set(exec_id, {
    sandbox,
    ...(runningAt !== undefined && { runningAt }),
    ...(endedBy !== undefined && { endedBy }),
    // Of several answers the one that says most.
    ...(status === "running"
      ? { runningAt: Math.max(runningAt ?? cursor, cursor) }
      : !toldLater && { endedBy: Math.min(endedBy ?? cursor, cursor) }),
  });
  return answer;
}
