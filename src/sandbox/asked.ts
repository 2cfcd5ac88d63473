import type { Call } from "./api.ts";
import { trace } from "./caller.ts";
import type { Core } from "./core.ts";
import type { Actor } from "./events.ts";
import type { Tell } from "./guest/types.ts";
import { isChangeIdOf, mostToldBetween, newChangeId, toldBefore } from "./ids.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";

/**
 * What servers ask of a guest comes back as facts, which any process may read: who asked goes along with it, and an id that only a
 * server can have made.
 */

/** Who asked for something, as its events tell. */
export interface Asked {
  actor: Actor;
  traceparent?: string;
}

/** What the server sends along with work for a guest, and finds again in the guest's facts of it. */
interface CallMeta {
  client?: string;
  traceparent?: string;
}

export const metaOf = (call: Call): CallMeta => ({ client: call.client, ...trace(call) });

/** The guest only echoes what a server sent, but a captured guest may echo anything. */
function parseMeta(meta: unknown): CallMeta {
  if (typeof meta !== "object" || meta === null) return {};
  const { client, traceparent } = meta as Record<string, unknown>;
  return {
    ...(typeof client === "string" && { client: client.slice(0, 200) }),
    ...(typeof traceparent === "string" &&
      /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent) && { traceparent }),
  };
}

/** Who asked for what a fact tells of. */
export function askedBy(meta: unknown): Asked {
  const { client, ...traced } = parseMeta(meta);
  return { actor: { kind: "agent", ...(client && { client }) }, ...traced };
}

/** Goes along with a change, of files or of a pause. */
export const tellOf = (core: Core, record: SandboxRecord, call: Call): Tell => ({
  id: newChangeId(core.store.installId, record.changes?.told ?? 0),
  meta: metaOf(call),
});

/** Whether a server asked for this change, and it was not told yet: from now on it was. */
export function isNews(core: Core, tx: Tx, record: SandboxRecord, { change_id }: { change_id: string }): boolean {
  const base = toldBefore(change_id);
  const oldest = (record.changes?.told ?? 0) - mostToldBetween;
  if (!isChangeIdOf(core.store.installId, change_id) || base < oldest) return false;
  return tx.noteChange(record.sandbox_id, change_id, base, oldest);
}
