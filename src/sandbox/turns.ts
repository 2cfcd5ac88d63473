import { givenUp } from "../errors.ts";
import type { Core } from "./core.ts";
import { abortable, deadline, pause } from "./wait.ts";

/** Longer than any change takes; only a process that was stopped in the middle of one is silent for so long. */
const staleMs = 5 * 60_000;
const againMs = 25;
const silent = "An update of the sandbox that came before did not end";

const roleOf = (sandboxId: string): string => `update:${sandboxId}`;

/**
 * Runs a change once those of the same sandbox that came before are over, in this process or another. Aborting ends the wait; a change
 * that has begun goes on to its end, so that engine, guest and store come to tell the same.
 * @throws TIMEOUT when they are not over within `patienceMs`: no change of this one then
 */
export async function inTurn<T>(
  core: Core,
  sandboxId: string,
  signal: AbortSignal,
  change: () => Promise<T>,
  patienceMs = 40_000,
): Promise<T> {
  const { updating } = core;
  const patience = deadline(patienceMs, signal);
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const begins = () => {
    begin();
    return change();
  };
  const turn = (updating.get(sandboxId) ?? Promise.resolve()).then(() => alone(core, sandboxId, patience, begins));
  const over = turn.then(
    () => {},
    () => {},
  );
  updating.set(sandboxId, over);
  void over.then(() => {
    if (updating.get(sandboxId) === over) updating.delete(sandboxId);
  });
  await abortable(Promise.race([begun, turn]), patience, silent);
  return abortable(turn, signal);
}

/** The same, but not while another change is under way. */
export async function unlessUpdating(core: Core, sandboxId: string, change: () => Promise<void>): Promise<void> {
  if (core.updating.has(sandboxId) || core.store.roles.holder(roleOf(sandboxId))) return;
  await inTurn(core, sandboxId, new AbortController().signal, change);
}

/** While no other process changes it, unless `patience` aborts before that. */
async function alone<T>(core: Core, sandboxId: string, patience: AbortSignal, change: () => Promise<T>): Promise<T> {
  const { roles } = core.store;
  const role = roleOf(sandboxId);
  while (!patience.aborted && !(await roles.hold(role, staleMs))) await pause(againMs, patience);
  try {
    if (patience.aborted) throw givenUp(patience.reason, silent);
    return await change();
  } finally {
    await roles.release(role);
  }
}
