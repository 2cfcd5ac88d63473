import { SandboxError } from "../errors.ts";
import { requireThisEngine, withGuest } from "./access.ts";
import { checkCapacity } from "./admission.ts";
import type { UpdateRequest } from "./api.ts";
import { type BackendLimits, memoryBudgetMb } from "./backend.ts";
import type { Core } from "./core.ts";
import { isTerminal, requireUnending } from "./lifecycle.ts";
import type { SandboxRecord } from "./store/types.ts";
import { deadline } from "./wait.ts";

const statsMs = 10_000;

/** What an update may change at the engine. */
export type Limits = Pick<BackendLimits, "cpus" | "memory_mb" | "pids">;

/** Those of a request; undefined when the engine has nothing to do. */
export function limitsOf({ cpus, memory_mb, pids }: UpdateRequest): Limits | undefined {
  const limits = {
    ...(cpus !== undefined && { cpus }),
    ...(memory_mb !== undefined && { memory_mb }),
    ...(pids !== undefined && { pids }),
  };
  return Object.keys(limits).length > 0 ? limits : undefined;
}

/**
 * Refuses what cannot be, and takes the memory before the engine gives it: another process may be asking for the same room at this
 * moment. It stays taken until the engine's answer is known.
 */
export async function reserve(core: Core, record: SandboxRecord, { memory_mb }: Limits): Promise<void> {
  await requireThisEngine(core, record);
  const grows = memory_mb !== undefined && memory_mb > record.resources.memory_mb;
  if (memory_mb !== undefined && !grows) await requireLess(core, record, memory_mb);
  const { engine_id, memory_bytes } = await core.backend.engine();
  await core.store.write((tx) => {
    const current = tx.sandbox(record.sandbox_id);
    if (!current) return;
    requireUnending(current);
    const wanted = Math.max(current.resources.memory_mb, memory_mb ?? 0);
    if (grows) {
      const others = tx
        .liveSandboxes()
        .filter((other) => other.engine_id === engine_id && other.sandbox_id !== current.sandbox_id);
      checkCapacity({ ...current.resources, memory_mb: wanted }, others, core, memory_bytes);
    }
    tx.putSandbox({ ...current, growing_to_mb: Math.max(current.growing_to_mb ?? 0, wanted) });
  });
}

/** Some kernels refuse a limit below what is used, others kill until it is met: neither is what an update is for. */
async function requireLess(core: Core, record: SandboxRecord, memory_mb: number): Promise<void> {
  const signal = deadline(statsMs);
  const { memory } = await withGuest(core, record.sandbox_id, signal, (guest) => guest.stats(signal), {
    repeatable: true,
  });
  const usedMb = Math.ceil((memory.used_bytes ?? 0) / 2 ** 20);
  const limitMb = memoryBudgetMb({ ...record.resources, memory_mb });
  if (usedMb < limitMb) return;
  throw new SandboxError(
    "LIMIT_EXCEEDED",
    `With memory_mb ${memory_mb} the sandbox may have ${limitMb} MiB, its tmpfs included, and it uses ${usedMb} MiB now; nothing was changed.`,
    {
      next: "Free memory first (end commands, delete files in the workspace and /tmp: they are memory), or ask for more; sandbox_stats tells what is used.",
    },
  );
}

/** Sets them at the engine. Nobody's signal reaches it: what it was asked cannot be taken back. */
export async function setLimits(core: Core, record: SandboxRecord, limits: Limits): Promise<void> {
  const { workspace_mb, tmp_mb, shm_mb } = record.resources;
  await core.backend.update(record.sandbox_id, {
    workspace_mb,
    ...(tmp_mb !== undefined && { tmp_mb }),
    ...(shm_mb !== undefined && { shm_mb }),
    ...limits,
  });
}

/** Whether a failed {@link setLimits} may have been done all the same: no answer, or none that says no. */
export function mayBeSet(error: unknown): boolean {
  if (!(error instanceof SandboxError)) return true;
  return (
    error.code === "INTERNAL" || error.code === "TIMEOUT" || (error.code === "BACKEND_UNAVAILABLE" && error.retryable)
  );
}

export function withoutReservation({ growing_to_mb: _, ...record }: SandboxRecord): SandboxRecord {
  return record;
}

/** After a change whose answer got lost, or whose asker died: the record comes to say what the engine does. */
export async function settleLimits(core: Core, sandboxId: string): Promise<void> {
  const limits = (await core.backend.status(sandboxId))?.limits;
  if (!limits) return;
  await core.store.write(
    (tx) => {
      const current = tx.sandbox(sandboxId);
      if (current?.growing_to_mb === undefined || isTerminal(current.state)) return;
      const { cpus, pids, memory_limit_mb } = limits;
      const resources = {
        ...current.resources,
        ...(cpus !== undefined && { cpus }),
        ...(pids !== undefined && { pids }),
        memory_mb: memory_limit_mb - memoryBudgetMb({ ...current.resources, memory_mb: 0 }),
      };
      const same = JSON.stringify(resources) === JSON.stringify(current.resources);
      tx.putSandbox(withoutReservation(same ? current : { ...current, resources }));
      if (same) return;
      tx.emit(sandboxId, {
        type: "lifecycle.updated",
        data: { changed: { resources: { old: current.resources, new: resources } } },
        actor: { kind: "system" },
      });
    },
    { necessary: true },
  );
}
