import type { PolicyDenied } from "./admission.ts";
import type { Call } from "./api.ts";
import type { Core } from "./core.ts";
import type { Actor } from "./events.ts";
import { isTerminal } from "./lifecycle.ts";

/** How whoever made a call stands in the events it led to. */
export const agent = (call: Call): Actor => ({ kind: "agent", client: call.client });
/** The trace of a call, or of one that a record keeps. */
export const trace = ({ traceparent }: Pick<Call, "traceparent">): { traceparent?: string } =>
  traceparent ? { traceparent } : {};

/** Tells of a refusal by the policy. One that belongs to no sandbox, or to one that has ended, is told of the host. */
export async function recordDenial(core: Core, denied: PolicyDenied, call: Call, sandboxId = "_host"): Promise<void> {
  const { what, requested, allowed, rule } = denied;
  await core.store.write((tx) => {
    const record = tx.sandbox(sandboxId);
    // The terminal event is the last one of a sandbox.
    tx.emit(record && !isTerminal(record.state) ? sandboxId : "_host", {
      type: "policy.denied",
      data: { what, requested, allowed, rule },
      actor: agent(call),
      ...trace(call),
    });
  });
}
