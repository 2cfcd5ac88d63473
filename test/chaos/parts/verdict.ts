import type { Received } from "../../support/nats.ts";
import type { Promised } from "./load.ts";
import type { Fates } from "./mishaps.ts";

/** An entry of the journal as `sandbox_events` gives it. */
export interface Told {
  cursor: string;
  id: string;
  time: string;
  type: string;
  sandbox_id: string;
  sequence: number;
  exec_id?: string;
  cause?: string;
  [field: string]: unknown;
}

const terminal = /^lifecycle\.(destroyed|failed)$/;

/** What is wrong with the journal by itself. Empty when every story is whole. */
export function storyFaults(journal: readonly Told[]): string[] {
  const faults: string[] = [];
  if (new Set(journal.map(({ id }) => id)).size !== journal.length) faults.push("an id stands in the journal twice");
  if (journal.some(({ type }) => type === "journal.dropped")) faults.push("the journal dropped events");
  for (const [sandbox, events] of bySandbox(journal)) {
    const wrong = events.findIndex((event, index) => event.sequence !== index + 1);
    if (wrong >= 0) faults.push(`${sandbox}: sequence ${events[wrong]?.sequence} at place ${wrong + 1}`);
    if (sandbox === "_host") continue;
    const ends = events.filter(({ type }) => terminal.test(type));
    if (ends.length !== 1) faults.push(`${sandbox}: ${ends.length} terminal events`);
    else if (ends[0] !== events.at(-1)) faults.push(`${sandbox}: ${events.at(-1)?.type} after its end`);
    if (events[0]?.type !== "lifecycle.created") faults.push(`${sandbox}: begins with ${events[0]?.type}`);
    if (ends[0]?.type === "lifecycle.failed" && events.some(({ type }) => type === "lifecycle.ready"))
      faults.push(`${sandbox}: failed after it was ready`);
    faults.push(...execFaults(sandbox, events));
  }
  return faults;
}

/** Ends that are told with a reason they cannot have. */
export function endFaults(journal: readonly Told[], promised: Promised, { killed, engineAway }: Fates): string[] {
  const faults: string[] = [];
  for (const [sandbox, events] of bySandbox(journal)) {
    if (sandbox === "_host") continue;
    const end = events.at(-1);
    const died = events.find(({ type }) => type === "lifecycle.died");
    const asked = promised.askedToEnd.has(sandbox);
    // Of one whose creation was not answered nobody knows when it was.
    const away = engineAway.has(sandbox) || !promised.created.has(sandbox);
    const wasRunning = promised.running.has(sandbox);
    const admissible = new Map<unknown, boolean>([
      ["request", asked],
      ["died", killed.has(sandbox) || away],
      // Nobody had it as running: its creator may have been killed.
      ["reconciled", away || !wasRunning],
      [undefined, end?.type === "lifecycle.failed" && !wasRunning],
    ]);
    const reason = end?.["reason"];
    if (!admissible.get(reason)) faults.push(`${sandbox}: ${end?.type} with reason ${reason}`);
    if (!away && !killed.has(sandbox) && promised.destroyed.has(sandbox) && reason !== "request")
      faults.push(`${sandbox}: was destroyed, and its end is told with reason ${reason}`);
    if (!away && !asked && killed.has(sandbox) && (reason !== "died" || died?.["exit_code"] !== 137))
      faults.push(`${sandbox}: was killed, and is told with reason ${reason}, exit code ${died?.["exit_code"]}`);
  }
  return faults;
}

/** Files that were written and not told, told and not written, or told twice. */
export function fileFaults(journal: readonly Told[], promised: Promised, { engineAway }: Fates): string[] {
  const faults: string[] = [];
  const stories = bySandbox(journal);
  for (const [sandbox, events] of stories) {
    const asked = promised.files.get(sandbox);
    const told = events.flatMap(({ type, changes }) =>
      type === "file.changed" ? (changes as { path: string }[]).map(({ path }) => path) : [],
    );
    for (const path of told) if (!asked?.has(path)) faults.push(`${sandbox}: ${path} is told, and nobody wrote it`);
    if (new Set(told).size !== told.length) faults.push(`${sandbox}: a file is told twice`);
    // What a guest says while its engine is away, the engine does not keep.
    if (engineAway.has(sandbox)) continue;
    for (const [path, answered] of asked ?? [])
      if (answered && !told.includes(path)) faults.push(`${sandbox}: ${path} was written and never told`);
  }
  return faults;
}

/** Commands that ran twice, and results that are not theirs, in answers or in the journal. */
export function resultFaults(journal: readonly Told[], promised: Promised): string[] {
  const faults: string[] = [];
  const ran = new Map<unknown, number>();
  for (const { type, command, exec_id = "", status, exit_code } of journal) {
    if (type === "exec.started" && String(command).startsWith("echo n")) ran.set(command, (ran.get(command) ?? 0) + 1);
    const result = type === "exec.completed" && promised.results.get(exec_id);
    if (result && status === "exited" && exit_code !== result.exit)
      faults.push(`${exec_id}: exit code ${exit_code} is told, ${result.exit} was to come`);
  }
  for (const [command, times] of ran) if (times > 1) faults.push(`${command}: ran ${times} times`);
  for (const [exec, { printed, wrong }] of promised.results)
    if (wrong) faults.push(`${exec}: answered ${wrong} for ${printed}`);
  return faults;
}

function execFaults(sandbox: string, events: readonly Told[]): string[] {
  const faults: string[] = [];
  const started = new Map<string, string>();
  const completed = new Set<string>();
  /** Limits by id, with the start they are said to follow from. */
  const limits = new Map<string, string | undefined>();
  for (const { type, id, exec_id = "", cause } of events) {
    if (type.startsWith("limit.")) limits.set(id, cause);
    if (type === "exec.started") {
      if (started.has(exec_id)) faults.push(`${sandbox}: ${exec_id} started twice`);
      started.set(exec_id, id);
    } else if (type === "exec.completed") {
      if (completed.has(exec_id)) faults.push(`${sandbox}: ${exec_id} completed twice`);
      if (cause === undefined || (limits.get(cause) ?? cause) !== started.get(exec_id))
        faults.push(`${sandbox}: ${exec_id} ended by itself`);
      completed.add(exec_id);
    }
  }
  for (const exec of started.keys()) if (!completed.has(exec)) faults.push(`${sandbox}: ${exec} never completed`);
  return faults;
}

/** What the stream has, next to the journal. */
export function streamFaults(journal: readonly Told[], received: readonly Received[]): string[] {
  const faults: string[] = [];
  const known = new Map(journal.map((event) => [event.id, event]));
  const seen = new Set<string>();
  const last = new Map<string, number>();
  for (const { id, sandbox, sequence, event } of received) {
    const told = known.get(id);
    if (!told) faults.push(`the stream has ${sandbox} ${sequence} (${event.type}), the journal does not`);
    else if (told.sequence !== sequence || event.type !== `dev.chorus.sandbox.${told.type}.v1`)
      faults.push(`${id}: ${event.type} ${sequence} in the stream, ${told.type} ${told.sequence} in the journal`);
    if (seen.has(id)) faults.push(`${sandbox} ${sequence} (${event.type}) is in the stream twice`);
    else if (sequence !== (last.get(sandbox) ?? 0) + 1)
      faults.push(`${sandbox}: ${sequence} after ${last.get(sandbox) ?? 0} in the stream`);
    if (!seen.has(id)) last.set(sandbox, sequence);
    seen.add(id);
  }
  for (const { id, sandbox_id, sequence, type } of journal)
    if (!seen.has(id)) faults.push(`${sandbox_id} ${sequence} (${type}) never came to the stream`);
  return faults;
}

/** What an answer said and the journal does not. */
export function promiseFaults(journal: readonly Told[], promised: Promised): string[] {
  const faults: string[] = [];
  const stories = bySandbox(journal);
  for (const id of promised.created) if (!stories.has(id)) faults.push(`${id} was created and never told of`);
  for (const id of promised.destroyed)
    if (!stories.get(id)?.some(({ type }) => terminal.test(type)))
      faults.push(`${id} was destroyed and its end not told`);
  const ends = new Map(
    journal.flatMap((event) =>
      event.type === "exec.completed" ? [[event.exec_id ?? "", Number(event.cursor)]] : [],
    ) as [string, number][],
  );
  for (const [exec, { sandbox, endedBy, runningAt }] of promised.execs) {
    for (const cursor of [endedBy, runningAt])
      if (cursor !== undefined && !Number.isInteger(cursor)) faults.push(`${exec}: was answered with cursor ${cursor}`);
    const end = ends.get(exec);
    if (end === undefined) faults.push(`${sandbox}: ${exec} was answered and never told of`);
    else if (endedBy !== undefined && end > endedBy)
      faults.push(`${sandbox}: ${exec} was answered as over with cursor ${endedBy}, its end is told at ${end}`);
    else if (runningAt !== undefined && end <= runningAt)
      faults.push(`${sandbox}: ${exec} was answered as running with cursor ${runningAt}, its end is told at ${end}`);
  }
  return faults;
}

function bySandbox(journal: readonly Told[]): Map<string, Told[]> {
  const stories = new Map<string, Told[]>();
  for (const event of journal) {
    const story = stories.get(event.sandbox_id);
    if (story) story.push(event);
    else stories.set(event.sandbox_id, [event]);
  }
  return stories;
}
