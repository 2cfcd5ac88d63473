import { leaseLeftMs } from "./boot-clock.ts";
import { workdir } from "./core.ts";
import { execRow } from "./exec-records.ts";
import type { GuestHealth } from "./guest/types.ts";
import { isTerminal } from "./lifecycle.ts";
import type { ExecRecord, SandboxRecord } from "./store/types.ts";
import type { SandboxRow, SandboxView } from "./views.ts";

/** What the guest says of itself; its {@link GuestHealth} or a part of it. */
export interface GuestsWord {
  lease: GuestHealth["lease"];
  execs?: Pick<GuestHealth["execs"], "running">;
}

/**
 * Pure: records as agents see them. What only the guest knows comes from its own word, else from the store's estimate.
 * @param execs the last ones of a sandbox that ended, the open ones of a live one
 */
export function sandboxView(
  record: SandboxRecord,
  eventCursor: string,
  execs: ExecRecord[],
  said?: GuestsWord,
): SandboxView {
  const live = !isTerminal(record.state);
  const ttlMs = said?.lease.ttl_remaining_ms;
  const idleMs = said?.lease.idle_remaining_ms;
  return {
    sandbox_id: record.sandbox_id,
    ...(record.name !== undefined && { name: record.name }),
    state: record.state,
    ...(record.ended && {
      ended: {
        at: record.ended.at,
        reason: record.ended.reason,
        ...(record.ended.message !== undefined && { message: record.ended.message }),
        ...(record.ended.exit_code !== undefined && { exit_code: record.ended.exit_code }),
        oom_killed: record.ended.oom_killed,
        last_execs: execs.map((exec) => execRow(exec)),
      },
    }),
    backend: record.backend,
    runtime: record.runtime,
    image: record.image,
    ...(record.image_digest && { image_digest: record.image_digest }),
    ...(record.programs && { programs: record.programs }),
    ...(record.shell && { shell: record.shell }),
    profile: record.profile,
    resources: record.resources,
    ...(record.confined_by && { confined_by: record.confined_by }),
    network: record.network,
    workdir,
    env_keys: record.env_keys,
    labels: record.labels,
    origin: record.origin,
    warm: record.warm,
    created_at: record.created_at,
    expires_in_s: live ? (typeof ttlMs === "number" ? seconds(ttlMs) : expiresIn(record)) : null,
    idle_in_s: live && typeof idleMs === "number" ? seconds(idleMs) : null,
    last_used_at: record.last_used_at,
    ...(record.last_command !== undefined && { last_command: record.last_command }),
    running_execs: live ? (said?.execs?.running ?? execs.length) : 0,
    event_cursor: eventCursor,
  };
}

export function sandboxRow(record: SandboxRecord): SandboxRow {
  return {
    sandbox_id: record.sandbox_id,
    ...(record.name !== undefined && { name: record.name }),
    state: record.state,
    ...(record.ended && { ended_reason: record.ended.reason }),
    image: record.image,
    labels: record.labels,
    origin: record.origin,
    created_at: record.created_at,
    expires_in_s: isTerminal(record.state) ? null : expiresIn(record),
    last_used_at: record.last_used_at,
    ...(record.last_command !== undefined && { last_command: record.last_command }),
  };
}

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

function expiresIn(record: SandboxRecord): number | null {
  const left = leaseLeftMs(record);
  return left === undefined ? null : Math.max(0, seconds(left));
}
