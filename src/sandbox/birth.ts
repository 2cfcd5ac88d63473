import { type SandboxSpec, specHash } from "./admission.ts";
import type { Call, CreateRequest } from "./api.ts";
import { leaseEnd } from "./boot-clock.ts";
import { agent, trace } from "./caller.ts";
import { confinedBy } from "./confinement.ts";
import type { Core } from "./core.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";

/** A sandbox as it stands in the store before the engine is asked. */
export function newRecord(
  core: Core,
  spec: SandboxSpec,
  request: CreateRequest,
  call: Call,
  ids: { sandboxId: string; engineId: string; uid: number; hash: string; runtime: string; warm?: boolean },
): SandboxRecord {
  const now = new Date().toISOString();
  const confined_by = confinedBy(spec);
  return {
    sandbox_id: ids.sandboxId,
    ...(request.name && { name: request.name }),
    tenant: core.tenant,
    engine_id: ids.engineId,
    state: "creating",
    backend: core.backend.name,
    runtime: ids.runtime,
    image: spec.image,
    profile: spec.profile,
    resources: spec.resources,
    ...(confined_by && { confined_by }),
    network: spec.network,
    ttl_s: spec.ttl_s,
    idle_s: spec.idle_s,
    uid: ids.uid,
    spec_hash: specHash(spec),
    ...(request.request_id && { request_id: request.request_id, request_hash: ids.hash }),
    labels: request.labels ?? {},
    env_keys: Object.keys(request.env ?? {}).sort(),
    origin: { client: call.client, folder: call.folder },
    ...trace(call),
    warm: ids.warm ?? false,
    creator: core.store.processId,
    created_at: now,
    last_used_at: now,
    fact_cursor: 0,
    sequence: 0,
    execs_total: 0,
  };
}

/** Keeps the intent, with its event. */
export function recordIntent(tx: Tx, record: SandboxRecord, call: Call): void {
  tx.putSandbox(record);
  tx.emit(record.sandbox_id, {
    type: "lifecycle.created",
    data: {
      image: record.image,
      backend: record.backend,
      runtime: record.runtime,
      profile: record.profile,
      resources: record.resources,
      ...(record.confined_by && { confined_by: record.confined_by }),
      network: record.network,
      ttl_s: record.ttl_s,
      idle_s: record.idle_s,
      warm: record.warm,
      origin: record.origin,
    },
    actor: agent(call),
    ...trace(call),
    ...(record.request_id && { request_id: record.request_id }),
  });
}

/** The transition to running, with its event. */
export function markReady(tx: Tx, record: SandboxRecord, durationMs: number): void {
  const now = new Date().toISOString();
  tx.putSandbox({
    ...record,
    state: "running",
    ready_at: now,
    last_used_at: now,
    ...leaseEnd(record.ttl_s),
  });
  tx.emit(record.sandbox_id, {
    type: "lifecycle.ready",
    data: { duration_ms: durationMs, ...(record.image_digest && { image_digest: record.image_digest }) },
    actor: { kind: "system" },
    ...trace(record),
    ...(record.request_id && { request_id: record.request_id }),
  });
}
