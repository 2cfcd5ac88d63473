import { quoted, SandboxError } from "../errors.ts";
import type { Core } from "./core.ts";
import type { Guest } from "./guest/types.ts";
import { isSandboxId } from "./ids.ts";
import { inOtherHands, isTerminal, requireLive } from "./lifecycle.ts";
import { settleDeath } from "./settle.ts";
import type { SandboxRecord } from "./store/types.ts";

/** The record an agent means by an id or a name: a live one first, else the newest that ended. SANDBOX_NOT_FOUND. */
export function findSandbox(core: Core, sandbox: string): SandboxRecord {
  const { store, tenant } = core;
  const record = isSandboxId(sandbox)
    ? store.sandbox(sandbox)
    : (store.sandboxByName(tenant, sandbox) ?? endedByName(core, sandbox));
  if (!record || record.tenant !== tenant) {
    throw new SandboxError("SANDBOX_NOT_FOUND", `There is no sandbox ${quoted(sandbox, 100)}.`);
  }
  return record;
}

/** Names of ended sandboxes are looked for among so many: what a wrong name costs is bounded, and ids always work. */
const namesLookedAt = 2_000;

function endedByName({ store, tenant }: Core, name: string): SandboxRecord | undefined {
  let seen = 0;
  for (const record of store.sandboxes({ tenant, includeEnded: true })) {
    if (record.name === name) return record;
    if (++seen === namesLookedAt) return undefined;
  }
  return undefined;
}

/**
 * Throws unless the sandbox lives on the engine this server uses: one data dir may have seen several, and the silence of another
 * engine about a sandbox is not its end.
 */
export async function requireThisEngine(core: Core, record: SandboxRecord): Promise<void> {
  const engine = await core.backend.engine();
  if (record.engine_id === engine.engine_id) return;
  throw new SandboxError(
    "BACKEND_UNAVAILABLE",
    `Sandbox ${record.sandbox_id} lives on another engine than ${quoted(engine.description)}, which this server uses.`,
    { next: "Start the server with the DOCKER_HOST the sandbox was created with.", retryable: false },
  );
}

/** Codes that say "the sandbox may be gone": then the engine is asked. */
const doubtful: ReadonlySet<string> = new Set([
  "GUEST_UNAVAILABLE",
  "SANDBOX_ENDED",
  "SANDBOX_NOT_FOUND",
  "SANDBOX_NOT_RUNNING",
]);

/**
 * Uses the guest of a live sandbox. When the session breaks, the engine tells whether the sandbox still lives: if not, its end is
 * settled and SANDBOX_ENDED thrown; if so, `repeatable` work is done once more over a new session.
 */
export async function withGuest<T>(
  core: Core,
  sandboxId: string,
  signal: AbortSignal,
  use: (guest: Guest) => Promise<T>,
  { repeatable }: { repeatable: boolean },
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    let guest: Guest | undefined;
    try {
      guest = core.connections.peek(sandboxId) ?? (await connect(core, sandboxId, signal));
      return await use(guest);
    } catch (error) {
      if (!(error instanceof SandboxError) || !doubtful.has(error.code)) throw error;
      await settleIfGone(core, sandboxId);
      const record = core.store.sandbox(sandboxId);
      if (record) requireLive(record);
      const lostBeforeUse = guest === undefined;
      const mayRepeat = lostBeforeUse || (repeatable && guest?.isClosed === true);
      if (attempt > 0 || !mayRepeat || signal.aborted) throw error;
    }
  }
}

async function connect(core: Core, sandboxId: string, signal: AbortSignal): Promise<Guest> {
  const record = core.store.sandbox(sandboxId);
  if (record) await requireThisEngine(core, record);
  return core.connections.guest(sandboxId, signal);
}

/** Asks the engine; a sandbox without running processes is brought to its end. True when it is over. */
export async function settleIfGone(core: Core, sandboxId: string): Promise<boolean> {
  const record = core.store.sandbox(sandboxId);
  if (!record || isTerminal(record.state)) return true;
  // While it is being created the engine may not know it yet; its creator tells how that ends.
  if (inOtherHands(record, core.store.processes)) return false;
  await requireThisEngine(core, record);
  const status = await core.backend.status(sandboxId);
  if (status?.state === "running") return false;
  await settleDeath(core, sandboxId, status);
  return true;
}

/** A lost session is the fastest sign of a death: whoever held it settles it, keeper or not. */
export function settleOnLoss(core: Core): void {
  core.connections.onLost((sandboxId) => {
    settleIfGone(core, sandboxId).catch((error: unknown) => {
      core.logger.warn(
        { err: SandboxError.from(error), sandbox_id: sandboxId },
        "a lost session could not be looked into",
      );
    });
  });
}
