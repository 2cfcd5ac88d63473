import { SandboxError } from "../errors.ts";
import { settleIfGone } from "./access.ts";
import type { BackendStatus } from "./backend.ts";
import { markReady } from "./birth.ts";
import type { Core } from "./core.ts";
import { inOtherHands, isTerminal } from "./lifecycle.ts";
import { settleLimits } from "./limits.ts";
import { settleDeath, tellFailed } from "./settle.ts";
import type { SandboxRecord, Store } from "./store/types.ts";
import { unlessUpdating } from "./turns.ts";
import { deadline } from "./wait.ts";

/**
 * Compares the store with the engine and brings both in step: what died unseen is told, what a dead creator left is adopted or
 * removed, shells go. Only sandboxes of this install and this engine are looked at; an engine that does not answer changes nothing.
 * False when something remains to be tried again.
 */
export async function reconcile(core: Core, signal: AbortSignal): Promise<boolean> {
  const { store, backend, logger } = core;
  const { engine_id } = await backend.engine(signal);
  // Records first: one that is running in this snapshot has had its container before the listing.
  const records = store.liveSandboxes().filter((record) => record.engine_id === engine_id);
  const statuses = new Map((await backend.list(signal)).map((status) => [status.sandbox_id, status]));

  const steps: Promise<void>[] = records.map((record) => bringInStep(core, record, statuses.get(record.sandbox_id)));
  const strangers = [...statuses.keys()].filter((id) => !live(store.sandbox(id)));
  for (const id of await unowned(store, strangers)) steps.push(settleDeath(core, id, statuses.get(id)));
  let whole = true;
  for (const result of await Promise.allSettled(steps)) {
    if (result.status === "fulfilled") continue;
    whole = false;
    if (!signal.aborted) logger.warn({ err: result.reason }, "a sandbox could not be reconciled; it is tried again");
  }
  return whole;
}

const live = (record: SandboxRecord | undefined): boolean => record !== undefined && !isTerminal(record.state);

/**
 * Those that belong to nobody: intent comes first, so what has neither a live record nor a place in the pool was left behind. Decided
 * inside a transaction, because a read may show the store as it was just before the container was made.
 */
async function unowned(store: Store, ids: string[]): Promise<string[]> {
  if (ids.length === 0) return ids;
  return store.write((tx) => ids.filter((id) => !live(tx.sandbox(id)) && !tx.poolMember(id)), { necessary: true });
}

async function bringInStep(core: Core, record: SandboxRecord, status: BackendStatus | undefined): Promise<void> {
  const { store, backend, logger } = core;
  const id = record.sandbox_id;
  if (inOtherHands(record, store.processes)) return;

  if (record.ending && status?.state === "running") {
    // Someone asked for its end and died, or the engine was away: finish it.
    await backend.kill(id);
    await settleIfGone(core, id);
    return;
  }
  const creating = record.state === "creating" && !record.ending;
  if (creating && status?.state === "running") {
    await adopt(core, record);
    return;
  }
  if (creating) {
    logger.info({ sandbox_id: id, engine: status?.state ?? "absent" }, "removing what a dead server was creating");
    await fail(core, record, creatorEnded);
    return;
  }
  if (status?.state === "running") {
    if (record.growing_to_mb !== undefined) await unlessUpdating(core, id, () => settleLimits(core, id));
    return;
  }
  await settleDeath(core, id, status);
}

/** A sandbox whose creator died after the engine started it: usable if it was claimed, which a creator does last. */
async function adopt(core: Core, record: SandboxRecord): Promise<void> {
  const id = record.sandbox_id;
  const signal = deadline(20_000);
  try {
    const guest = await core.connections.guest(id, signal);
    const health = await guest.health(signal);
    // Its env died with the creator: handing it out without would be silently wrong.
    if (!health.lease.claimed) return await fail(core, record, leftIncomplete);
    await core.store.write((tx) => {
      const current = tx.sandbox(id);
      if (current?.state === "creating")
        markReady(tx, { ...current, shell: health.shell }, Date.now() - Date.parse(record.created_at));
    });
    core.logger.info({ sandbox_id: id }, "adopted a sandbox its creator left");
  } catch (error) {
    const failure = SandboxError.from(error);
    // This server is closing or the engine went away: neither says anything about the sandbox.
    if (failure.code === "ABORTED" || failure.code === "BACKEND_UNAVAILABLE") throw failure;
    await fail(core, record, failure);
  }
}

type Failure = Pick<SandboxError, "code" | "message" | "retryable">;

const creatorEnded: Failure = { code: "ABORTED", message: "The server that was creating it ended.", retryable: true };
const leftIncomplete: Failure = {
  ...creatorEnded,
  message: "The server that was creating it ended before it was complete.",
};

async function fail(core: Core, record: SandboxRecord, why: Failure): Promise<void> {
  await core.connections.drop(record.sandbox_id);
  await tellFailed(core.store, record.sandbox_id, "create", why);
  await core.backend.remove(record.sandbox_id);
  if (core.store.sandbox(record.sandbox_id)?.ending) await settleDeath(core, record.sandbox_id, undefined);
}
