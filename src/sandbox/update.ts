import { SandboxError } from "../errors.ts";
import { requireThisEngine, withGuest } from "./access.ts";
import { checkBound, checkCapacity, checkEnv, checkLabels, PolicyDenied } from "./admission.ts";
import type { Call, UpdateRequest } from "./api.ts";
import { memoryBudgetMb } from "./backend.ts";
import { leaseEnd } from "./boot-clock.ts";
import { agent, recordDenial, trace } from "./caller.ts";
import type { Core } from "./core.ts";
import { applyFacts, changePaused } from "./facts.ts";
import type { GuestFact } from "./guest/types.ts";
import { isTerminal, requireUnending } from "./lifecycle.ts";
import type { SandboxRecord } from "./store/types.ts";

/** Changes a live sandbox: checked whole first, then done at engine and guest, then told. */
export async function updateSandbox(
  core: Core,
  record: SandboxRecord,
  request: UpdateRequest,
  call: Call,
): Promise<void> {
  requireUnending(record);
  await checkLimits(core, record, request, call);
  const { ttl_s, idle_s, env, paused, cpus, memory_mb, pids } = request;
  let facts: GuestFact[] = [];
  const beyondStore = [ttl_s, idle_s, env, paused, cpus, memory_mb, pids].some((value) => value !== undefined);
  if (beyondStore) {
    if (record.state === "creating") {
      throw new SandboxError("SANDBOX_NOT_RUNNING", `Sandbox ${record.sandbox_id} is still being created.`, {
        next: `Call sandbox_get {"sandbox_id":"${record.sandbox_id}","wait_s":30} first.`,
        retryable: true,
      });
    }
    await changeEngine(core, record, request, call.signal);
    facts = await changeGuest(core, record, request, call.signal);
  }
  await journalUpdate(core, record.sandbox_id, request, facts, call);
}

async function checkLimits(core: Core, record: SandboxRecord, request: UpdateRequest, call: Call): Promise<void> {
  const after = updated(record, request);
  checkLabels(after.labels);
  checkEnv(request.env ?? {});
  try {
    for (const key of ["ttl_s", "idle_s", "cpus", "memory_mb", "pids"] as const) {
      const value = request[key];
      if (value !== undefined) checkBound(key, value, core.policy);
    }
  } catch (error) {
    if (error instanceof PolicyDenied) await recordDenial(core, error, call, record.sandbox_id);
    throw error;
  }
}

async function changeEngine(
  core: Core,
  record: SandboxRecord,
  request: UpdateRequest,
  signal: AbortSignal,
): Promise<void> {
  const { cpus, memory_mb, pids } = request;
  if (cpus === undefined && memory_mb === undefined && pids === undefined) return;
  await requireThisEngine(core, record);
  const grows = memory_mb !== undefined && memory_mb > record.resources.memory_mb;
  if (grows) await reserve(core, record.sandbox_id, memory_mb, signal);
  else if (memory_mb !== undefined) await requireLess(core, record, memory_mb, signal);
  const { workspace_mb, tmp_mb, shm_mb } = record.resources;
  const limits = {
    workspace_mb,
    ...(tmp_mb !== undefined && { tmp_mb }),
    ...(shm_mb !== undefined && { shm_mb }),
    ...(cpus !== undefined && { cpus }),
    ...(memory_mb !== undefined && { memory_mb }),
    ...(pids !== undefined && { pids }),
  };
  try {
    await core.backend.update(record.sandbox_id, limits, signal);
  } catch (error) {
    if (grows) await release(core, record.sandbox_id);
    throw error;
  }
}

/** Takes the memory before the engine gives it: another process may be asking for the same room at this moment. */
async function reserve(core: Core, id: string, memory_mb: number, signal: AbortSignal): Promise<void> {
  const { engine_id, memory_bytes } = await core.backend.engine(signal);
  await core.store.write((tx) => {
    const current = tx.sandbox(id);
    if (!current) return;
    requireUnending(current);
    const others = tx
      .liveSandboxes()
      .filter((other) => other.engine_id === engine_id && other.sandbox_id !== current.sandbox_id);
    checkCapacity({ ...current.resources, memory_mb }, others, core, memory_bytes);
    tx.putSandbox({ ...current, growing_to_mb: memory_mb });
  });
}

/** Some kernels refuse a limit below what is used, others kill until it is met: neither is what an update is for. */
async function requireLess(core: Core, record: SandboxRecord, memory_mb: number, signal: AbortSignal): Promise<void> {
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

async function release(core: Core, id: string): Promise<void> {
  await core.store.write((tx) => {
    const current = tx.sandbox(id);
    if (current?.growing_to_mb !== undefined) tx.putSandbox(withoutReservation(current));
  });
}

function withoutReservation({ growing_to_mb: _, ...record }: SandboxRecord): SandboxRecord {
  return record;
}

/** Resolves with the facts that tell of a pause or its end, for the transaction that journals it. */
async function changeGuest(
  core: Core,
  record: SandboxRecord,
  request: UpdateRequest,
  signal: AbortSignal,
): Promise<GuestFact[]> {
  const { ttl_s, idle_s, env, paused, pids } = request;
  if ([ttl_s, idle_s, env, paused, pids].every((value) => value === undefined)) return [];
  return withGuest(
    core,
    record.sandbox_id,
    signal,
    async (guest) => {
      if (pids !== undefined) await guest.setLimits({ pids }, signal);
      if (env) {
        const set = Object.fromEntries(
          Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== null),
        );
        await guest.patchEnv({ set, unset: Object.keys(env).filter((key) => env[key] === null) }, signal);
      }
      if (ttl_s !== undefined || idle_s !== undefined) {
        const lease = {
          ...(ttl_s !== undefined && { ttl_ms: ttl_s * 1000 }),
          ...(idle_s !== undefined && { idle_ms: idle_s * 1000 }),
        };
        await guest.setLease(lease, signal);
      }
      if (paused === undefined) return [];
      await (paused ? guest.pause(signal) : guest.resume(signal));
      const cursor = core.store.sandbox(record.sandbox_id)?.fact_cursor ?? 0;
      return (await guest.facts(cursor, 0, signal)).facts;
    },
    { repeatable: true },
  );
}

async function journalUpdate(
  core: Core,
  id: string,
  request: UpdateRequest,
  facts: GuestFact[],
  call: Call,
): Promise<void> {
  const { ttl_s, idle_s, paused } = request;
  const asked = { actor: agent(call), ...trace(call) };
  await core.store.write((tx) => {
    // With the cursor moved past them, nobody takes an older pause for news.
    applyFacts(core, tx, id, facts, asked);
    const before = tx.sandbox(id);
    if (!before || isTerminal(before.state)) return;
    const after = updated(before, request);
    const changed = changes(before, after, { ttl: ttl_s !== undefined, idle: idle_s !== undefined });
    const told = Object.keys(changed).length > 0;
    if (told || before.growing_to_mb !== after.growing_to_mb) tx.putSandbox(after);
    if (told) {
      tx.emit(id, { type: "lifecycle.updated", data: { changed }, ...asked });
    }
    const now = tx.sandbox(id);
    if (now && paused !== undefined && (now.state === "paused") !== paused) changePaused(tx, now, paused, asked);
  });
}

function updated(before: SandboxRecord, request: UpdateRequest): SandboxRecord {
  const { labels, env, ttl_s, idle_s, cpus, memory_mb, pids } = request;
  const merged = Object.entries({ ...before.labels, ...labels }).filter(
    (pair): pair is [string, string] => pair[1] !== null,
  );
  const keys = new Set(before.env_keys);
  for (const [key, value] of Object.entries(env ?? {})) {
    if (value === null) keys.delete(key);
    else keys.add(key);
  }
  return {
    ...(memory_mb === undefined ? before : withoutReservation(before)),
    labels: Object.fromEntries(merged),
    env_keys: [...keys].sort(),
    resources: {
      ...before.resources,
      ...(cpus !== undefined && { cpus }),
      ...(memory_mb !== undefined && { memory_mb }),
      ...(pids !== undefined && { pids }),
    },
    ...(ttl_s !== undefined && { ttl_s, ...leaseEnd(ttl_s) }),
    ...(idle_s !== undefined && { idle_s }),
  };
}

/** Changed keys with old and new value; of the env only which keys there are. A lease asked for anew counts even if equal. */
function changes(
  before: SandboxRecord,
  after: SandboxRecord,
  renewed: { ttl: boolean; idle: boolean },
): Record<string, { old: unknown; new: unknown }> {
  const pairs: [string, unknown, unknown, boolean][] = [
    ["labels", before.labels, after.labels, false],
    ["env_keys", before.env_keys, after.env_keys, false],
    ["resources", before.resources, after.resources, false],
    ["ttl_s", before.ttl_s, after.ttl_s, renewed.ttl],
    ["idle_s", before.idle_s, after.idle_s, renewed.idle],
  ];
  return Object.fromEntries(
    pairs
      .filter(([, old, now, always]) => always || JSON.stringify(old) !== JSON.stringify(now))
      .map(([key, old, now]) => [key, { old, new: now }]),
  );
}
