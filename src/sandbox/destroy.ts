import { SandboxError } from "../errors.ts";
import { requireThisEngine } from "./access.ts";
import type { Call } from "./api.ts";
import { trace } from "./caller.ts";
import type { Core, Used } from "./core.ts";
import { lastFacts } from "./ingest.ts";
import { isTerminal } from "./lifecycle.ts";
import { settleDeath } from "./settle.ts";
import { usedBy } from "./stats.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { Destroyed } from "./views.ts";
import { deadline } from "./wait.ts";

/**
 * Ends a sandbox, with or without its guest's help. The intent is durable first: when the engine is away, the keeper ends it
 * once it is back. `stopCreating` ends the creation that may be under way in this process.
 */
export async function destroySandbox(
  core: Core,
  record: SandboxRecord,
  call: Call,
  stopCreating: () => Promise<void>,
): Promise<Destroyed> {
  const id = record.sandbox_id;
  if (isTerminal(record.state)) return { sandbox_id: id, destroyed: false, already_ended: true };
  const totals = await readTotals(core, id);
  await core.store.write(
    (tx) => {
      const current = tx.sandbox(id);
      if (!current || current.ending || isTerminal(current.state)) return;
      const asked = { client: call.client, ...trace(call) };
      tx.putSandbox({ ...current, ending: { reason: "request", at: new Date().toISOString(), ...asked, ...totals } });
    },
    { necessary: true },
  );
  await stopCreating();
  await lastFacts(core, id);
  try {
    await requireThisEngine(core, record);
    await core.backend.kill(id);
    // A creation under way in another process finds the end at its next step and takes back what the engine made.
    await settleDeath(core, id, await core.backend.status(id));
  } catch (error) {
    const failure = SandboxError.from(error);
    if (failure.code !== "BACKEND_UNAVAILABLE") throw failure;
    throw new SandboxError(
      "BACKEND_UNAVAILABLE",
      `${failure.message} The end of ${id} is noted and done once the engine answers.`,
      { cause: error, next: failure.next, retryable: failure.retryable },
    );
  }
  return { sandbox_id: id, destroyed: true, already_ended: false };
}

/** What it used, if its guest says so soon; any process that settles the end tells it. */
async function readTotals(core: Core, id: string): Promise<Partial<Used>> {
  const guest = core.connections.peek(id);
  const stats = await guest?.stats(deadline(500)).catch(() => undefined);
  return stats ? usedBy(stats) : {};
}
