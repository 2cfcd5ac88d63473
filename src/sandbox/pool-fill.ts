import { pickUid, type SandboxSpec, specHash } from "./admission.ts";
import type { EngineInfo, ImageInfo } from "./backend.ts";
import { engineSpec } from "./confinement.ts";
import type { Core } from "./core.ts";
import { newSandboxId } from "./ids.ts";
import type { ImagePrograms } from "./image-programs.ts";
import { discardMember, fits, memberLeaseMs } from "./pool.ts";
import type { PoolMember } from "./store/types.ts";
import { deadline } from "./wait.ts";

/** The longest that making a member takes. */
export const fillMs = 60_000;

/** What members are to be like. */
export interface Plan {
  spec: SandboxSpec;
  image: ImageInfo;
  key: string;
}

/**
 * Makes one member more, intent first. Undefined when there is no room for it, somebody is creating, or it had to give way; rejects
 * once what was made is taken back.
 */
export async function fillPool(
  core: Core,
  engine: EngineInfo,
  plan: Plan,
  known: ImagePrograms,
  stop: AbortSignal,
): Promise<string | undefined> {
  const { store, backend, connections } = core;
  const { spec, image } = plan;
  const member = await intend(core, engine, plan);
  if (!member) return undefined;
  const { sandbox_id: id, uid } = member;
  const signal = deadline(fillMs, stop);
  try {
    const own = { sandbox_id: id, uid, spec_hash: member.spec_hash, boot_lease_ms: memberLeaseMs };
    await backend.create(engineSpec(spec, { ...own, image_id: image.image_id }), signal);
    const guest = await connections.guest(id, signal);
    const { shell } = await guest.health(signal);
    await guest.patchEnv({ set: {}, unset: [], image: { ...spec.env, ...image.env } }, signal);
    const programs = known.known(image.image_id) ?? (await known.ask(image.image_id, guest));
    const wanted = await store.write((tx) => {
      if (!tx.poolMember(id)) return false;
      tx.putPoolMember({ ...member, ready: true, shell, ...(programs && { programs }) });
      return true;
    });
    if (wanted) return id;
  } catch (error) {
    await discardMember(core, id);
    throw error;
  }
  await discardMember(core, id);
  return undefined;
}

function intend(
  core: Core,
  { engine_id, memory_bytes }: EngineInfo,
  { spec, key }: Plan,
): Promise<PoolMember | undefined> {
  const { store, tenant, policy } = core;
  return store.write((tx) => {
    const live = tx.liveSandboxes().filter((record) => record.engine_id === engine_id);
    const members = tx.pool().filter((member) => member.engine_id === engine_id);
    // The end of that create is told by an event, which brings the next try.
    if (live.some(({ state }) => state === "creating")) return undefined;
    if (!fits(spec.resources, live, members, policy, memory_bytes)) return undefined;
    const member: PoolMember = {
      sandbox_id: newSandboxId(),
      tenant,
      engine_id,
      spec_hash: specHash(spec),
      key,
      uid: pickUid(new Set([...live, ...members].map(({ uid }) => uid)), policy.users),
      resources: spec.resources,
      ready: false,
      creator: store.processId,
      created_at: new Date().toISOString(),
    };
    tx.putPoolMember(member);
    return member;
  });
}
