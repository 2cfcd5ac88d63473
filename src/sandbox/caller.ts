import type { PolicyDenied } from "./admission.ts";
import type { Call } from "./api.ts";
import type { Core } from "./core.ts";
import type { Actor } from "./events.ts";

/** How whoever made a call stands in the events it led to. */
export const agent = (call: Call): Actor => ({ kind: "agent", client: call.client });
/** The trace of a call, or of one that a record keeps. */
export const trace = ({ traceparent }: Pick<Call, "traceparent">): { traceparent?: string } =>
  traceparent ? { traceparent } : {};

/** What the server sends along with work for a guest, and finds again in the guest's facts of it. */
export interface CallMeta {
  client?: string;
  traceparent?: string;
}

export const metaOf = (call: Call): CallMeta => ({ client: call.client, ...trace(call) });

/** The guest only echoes what a server sent, but a captured guest may echo anything. */
export function parseMeta(meta: unknown): CallMeta {
  if (typeof meta !== "object" || meta === null) return {};
  const { client, traceparent } = meta as Record<string, unknown>;
  return {
    ...(typeof client === "string" && { client: client.slice(0, 200) }),
    ...(typeof traceparent === "string" &&
      /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent) && { traceparent }),
  };
}

/** {@link agent} and {@link trace} of what a guest's fact tells of. */
export function askedBy(meta: unknown): { actor: Actor; traceparent?: string } {
  const { client, ...traced } = parseMeta(meta);
  return { actor: { kind: "agent", ...(client && { client }) }, ...traced };
}

/** Tells of a refusal by the policy; it belongs to no sandbox, so the host's own subject carries it. */
export async function recordDenial(core: Core, denied: PolicyDenied, call: Call, sandboxId = "_host"): Promise<void> {
  const { what, requested, allowed, rule } = denied;
  await core.store.write((tx) => {
    tx.emit(sandboxId, {
      type: "policy.denied",
      data: { what, requested, allowed, rule },
      actor: agent(call),
      ...trace(call),
    });
  });
}
