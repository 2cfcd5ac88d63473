import { memoryLimitMb } from "./admission.ts";
import { memoryBudgetMb, type SandboxBackend } from "./backend.ts";
import type { HostUp } from "./events.ts";
import type { Policy } from "./policy.ts";
import type { Store } from "./store/types.ts";

/**
 * What this host offers at any moment. Asks the engine at once, and again with each look until it has answered: a host whose engine
 * is down is told of all the same, with sizes of 0.
 */
export function hostOffer(of: {
  backend: Pick<SandboxBackend, "engine">;
  store: Pick<Store, "liveSandboxes">;
  policy: Policy;
  version: string;
}): () => HostUp {
  const { backend, store, policy, version } = of;
  let size: { cpus: number; memory_bytes: number } | undefined;
  let asking = false;
  const ask = async (): Promise<void> => {
    if (size !== undefined || asking) return;
    asking = true;
    try {
      const { cpus, memory_bytes } = await backend.engine();
      size = { cpus, memory_bytes };
    } catch {
      // The keeper says what is wrong with the engine.
    } finally {
      asking = false;
    }
  };
  void ask();
  return () => {
    void ask();
    const { cpus, memory_bytes } = size ?? { cpus: 0, memory_bytes: 0 };
    const live = store.liveSandboxes();
    return {
      version,
      capacity: {
        cpus,
        memory_bytes,
        sandboxes: live.length,
        sandboxes_limit: policy.maxima.sandboxes,
        memory_used_mb: live.reduce((sum, record) => sum + memoryBudgetMb(record.resources), 0),
        memory_limit_mb: memoryLimitMb(policy, memory_bytes),
      },
    };
  };
}
