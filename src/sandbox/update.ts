import { SandboxError } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import { checkBound, checkEnv, checkLabels, PolicyDenied } from "./admission.ts";
import type { Call, UpdateRequest } from "./api.ts";
import { tellOf } from "./asked.ts";
import { leaseEnd } from "./boot-clock.ts";
import { agent, recordDenial, trace } from "./caller.ts";
import type { Core } from "./core.ts";
import { applyFacts, changePaused } from "./facts.ts";
import type { Guest, GuestFact } from "./guest/types.ts";
import { isTerminal, requireUnending } from "./lifecycle.ts";
import { limitsOf, mayBeSet, reserve, setLimits, settleLimits, withoutReservation } from "./limits.ts";
import type { SandboxRecord } from "./store/types.ts";
import { inTurn } from "./turns.ts";
import { deadline } from "./wait.ts";

const guestMs = 30_000;

/** Changes a live sandbox: checked whole first, then done at guest and engine, one update after the other, then told. */
export async function updateSandbox(
  core: Core,
  record: SandboxRecord,
  request: UpdateRequest,
  call: Call,
): Promise<void> {
  requireUnending(record);
  await check(core, record, request, call);
  const { labels: _, ...beyondStore } = request;
  if (Object.values(beyondStore).every((value) => value === undefined)) {
    await journal(core, record.sandbox_id, request, [], call);
    return;
  }
  if (record.state === "creating") {
    throw new SandboxError("SANDBOX_NOT_RUNNING", `Sandbox ${record.sandbox_id} is still being created.`, {
      next: `Call sandbox_get {"sandbox_id":"${record.sandbox_id}","wait_s":30} first.`,
      retryable: true,
    });
  }
  await inTurn(core, record.sandbox_id, call.signal, () => change(core, record.sandbox_id, request, call));
}

/** What was done when a step fails is told as well: engine, guest and store say the same, whatever the caller is answered. */
async function change(core: Core, id: string, request: UpdateRequest, call: Call): Promise<void> {
  const limits = limitsOf(request);
  if (limits && findSandbox(core, id).growing_to_mb !== undefined) await settleLimits(core, id);
  const record = findSandbox(core, id);
  requireUnending(record);
  await check(core, record, request, call);
  if (limits) await reserve(core, record, limits);
  const done: UpdateRequest = {};
  let unknown = false;
  try {
    // The guest may refuse it, and then nothing has been changed yet.
    const { env } = request;
    if (env) {
      await atGuest(core, id, (guest, signal) => patchEnv(guest, env, signal));
      done.env = env;
    }
    if (limits) {
      await setLimits(core, record, limits).catch((error: unknown) => {
        unknown = mayBeSet(error);
        throw error;
      });
      Object.assign(done, limits);
    }
    const facts = await changeGuest(core, record, request, done, call);
    await journal(core, id, request, facts, call);
  } catch (error) {
    await journal(core, id, done, [], call, { keepReservation: unknown });
    throw partly(error, done, unknown);
  }
}

/** The failure of a step, with what else the caller has to know of the sandbox now. */
function partly(error: unknown, done: UpdateRequest, unknown: boolean): SandboxError {
  const { code, message, next, retryable } = SandboxError.from(error);
  const changed = Object.keys(done);
  const words = [message];
  if (changed.length > 0) words.push(`Changed before that, and left so: ${changed.join(", ")}.`);
  if (unknown) words.push("Whether its limits changed is not known yet; sandbox_get tells once the engine has.");
  return new SandboxError(code, words.join(" "), { next, retryable, cause: error });
}

async function check(core: Core, record: SandboxRecord, request: UpdateRequest, call: Call): Promise<void> {
  const after = updated(record, request);
  checkLabels(after.labels);
  checkEnv(request.env ?? {});
  checkEnv(Object.fromEntries(after.env_keys.map((key) => [key, ""])));
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

function atGuest<T>(core: Core, id: string, use: (guest: Guest, signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = deadline(guestMs);
  return withGuest(core, id, signal, (guest) => use(guest, signal), { repeatable: true });
}

async function patchEnv(guest: Guest, env: Record<string, string | null>, signal: AbortSignal): Promise<void> {
  const set = Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== null));
  await guest.patchEnv({ set, unset: Object.keys(env).filter((key) => env[key] === null) }, signal);
}

/** All but the env. Resolves with the facts that tell of a pause or its end, for the transaction that journals it. */
async function changeGuest(
  core: Core,
  record: SandboxRecord,
  request: UpdateRequest,
  done: UpdateRequest,
  call: Call,
): Promise<GuestFact[]> {
  const id = record.sandbox_id;
  const { ttl_s, idle_s, paused, pids } = request;
  if ([ttl_s, idle_s, paused, pids].every((value) => value === undefined)) return [];
  return atGuest(core, id, async (guest, signal) => {
    if (pids !== undefined) await guest.setLimits({ pids }, signal);
    if (ttl_s !== undefined || idle_s !== undefined) {
      const lease = {
        ...(ttl_s !== undefined && { ttl_ms: ttl_s * 1000 }),
        ...(idle_s !== undefined && { idle_ms: idle_s * 1000 }),
      };
      await guest.setLease(lease, signal);
      Object.assign(done, { ...(ttl_s !== undefined && { ttl_s }), ...(idle_s !== undefined && { idle_s }) });
    }
    if (paused === undefined) return [];
    const tell = tellOf(core, record, call);
    await (paused ? guest.pause(tell, signal) : guest.resume(tell, signal));
    done.paused = paused;
    const cursor = core.store.sandbox(id)?.fact_cursor ?? 0;
    return (await guest.facts(cursor, 0, signal)).facts;
  });
}

/** Tells what was done, and lets go of the memory that was reserved for it. */
async function journal(
  core: Core,
  id: string,
  request: UpdateRequest,
  facts: GuestFact[],
  call: Call,
  { keepReservation = false } = {},
): Promise<void> {
  const { ttl_s, idle_s, paused } = request;
  const asked = { actor: agent(call), ...trace(call) };
  await core.store.write(
    (tx) => {
      // With the cursor moved past them, nobody takes an older pause for news.
      applyFacts(core, tx, id, facts);
      const before = tx.sandbox(id);
      if (!before || isTerminal(before.state)) return;
      const after = updated(keepReservation ? before : withoutReservation(before), request);
      const changed = changes(before, after, { ttl: ttl_s !== undefined, idle: idle_s !== undefined });
      const told = Object.keys(changed).length > 0;
      if (told || before.growing_to_mb !== after.growing_to_mb) tx.putSandbox(after);
      if (told) {
        tx.emit(id, { type: "lifecycle.updated", data: { changed }, ...asked });
      }
      const now = tx.sandbox(id);
      if (now && paused !== undefined && (now.state === "paused") !== paused) changePaused(tx, now, paused, asked);
    },
    { necessary: true },
  );
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
    ...before,
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
    ...(before.told && { told: withoutNotices(before.told, { ttl: ttl_s !== undefined, idle: idle_s !== undefined }) }),
  };
}

/** No death follows from the notice of a lease that was renewed since. */
function withoutNotices(
  { ttl, idle, ...told }: NonNullable<SandboxRecord["told"]>,
  renewed: { ttl: boolean; idle: boolean },
): NonNullable<SandboxRecord["told"]> {
  return {
    ...told,
    ...(ttl !== undefined && !renewed.ttl && { ttl }),
    ...(idle !== undefined && !renewed.idle && { idle }),
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
