import { createHash, randomBytes } from "node:crypto";
import { hasCode } from "../errors.ts";
import { withGuest } from "./access.ts";
import { checkCapacity, lackOfRoom, type SandboxSpec, specHash } from "./admission.ts";
import type { EngineInfo, ImageInfo, Resources } from "./backend.ts";
import { engineSpec } from "./confinement.ts";
import type { Core } from "./core.ts";
import type { GuestLease } from "./guest/types.ts";
import type { Policy } from "./policy.ts";
import type { PoolMember, SandboxRecord } from "./store/types.ts";
import { deadline } from "./wait.ts";

/** How long a member lives unless the keeper says so again: with no server alive it ends by itself. */
export const memberLeaseMs = 90_000;
/** How soon a claim must be followed up, or the member ends: what a claimant that dies leaves behind. */
const claimLeaseMs = 20_000;
/** A warm sandbox that takes longer is none. */
const claimWithinMs = 3_000;
const removeMs = 15_000;

/** A member that this process, and no other, may make a sandbox of. */
export interface Warm {
  member: PoolMember;
  image: ImageInfo;
  claim: string;
}

/** Equal for all requests that a member may serve: tenant, policy, and everything the engine would be asked for. */
export async function memberKey(
  core: Core,
  spec: SandboxSpec,
  image: ImageInfo,
  signal?: AbortSignal,
): Promise<string> {
  const anyone = { sandbox_id: "", uid: 0, spec_hash: specHash(spec) };
  const own = { ...anyone, image_id: image.image_id, boot_lease_ms: memberLeaseMs };
  const recipe = await core.backend.recipe(engineSpec(spec, own), signal);
  return createHash("sha256")
    .update(JSON.stringify([core.tenant, core.policy, recipe]))
    .digest("hex");
}

/**
 * Takes a warm sandbox that is just what the spec asks for, if there is one. The guest decides among claimants, so whoever gets
 * it here has it alone; it becomes a sandbox by the caller's transaction, and ends soon if that never comes. The caller discards
 * one it does not use.
 */
export async function claimWarm(
  core: Core,
  { engine_id: engineId, memory_bytes }: EngineInfo,
  spec: SandboxSpec,
  env: Record<string, string>,
  signal: AbortSignal,
  claimMs = claimLeaseMs,
): Promise<Warm | undefined> {
  const { store, connections } = core;
  const hash = specHash(spec);
  const near = store
    .pool()
    .filter((m) => m.ready && m.engine_id === engineId && m.tenant === core.tenant && m.spec_hash === hash);
  if (near.length === 0) return undefined;
  // One that may not be had is not spent on finding out.
  const live = store.liveSandboxes().filter((record) => record.engine_id === engineId);
  checkCapacity(spec.resources, live, core, memory_bytes);
  // Those this process has a session with come first: another one costs ten times the rest.
  near.sort((a, b) => Number(!connections.peek(a.sandbox_id)) - Number(!connections.peek(b.sandbox_id)));
  const soon = deadline(claimWithinMs, signal);
  let wanted: Promise<{ image: ImageInfo; key: string }> | undefined;
  for (const member of near) {
    const claim = randomBytes(16).toString("base64url");
    try {
      const guest = await connections.guest(member.sandbox_id, soon);
      const claimed = guest.setLease({ claim, boot_ms: claimMs }, soon);
      // The tag may mean another image by now. Asked beside the claim, and after it was sent: both take a moment.
      wanted ??= wantedNow(core, spec, soon);
      wanted.catch(() => {});
      await claimed;
      const { image, key } = await wanted;
      if (key === member.key) {
        if (Object.keys(env).length > 0) await guest.patchEnv({ set: env, unset: [] }, soon);
        return { member, image, claim };
      }
      discardLater(core, member.sandbox_id);
    } catch (error) {
      if (hasCode(error, "CONFLICT")) continue;
      discardLater(core, member.sandbox_id);
      if (signal.aborted) throw error;
      core.logger.debug({ err: error, sandbox_id: member.sandbox_id }, "a warm sandbox was of no use");
    }
  }
  return undefined;
}

/** What a member has to be like to be of use now. */
async function wantedNow(
  core: Core,
  spec: SandboxSpec,
  signal: AbortSignal,
): Promise<{ image: ImageInfo; key: string }> {
  const image = await core.backend.resolveImage(spec.image, { signal, local: true });
  return { image, key: await memberKey(core, spec, image, signal) };
}

/** Makes the claim last as long as the sandbox: the last step, once the sandbox is in the store. Resolves with the lease. */
export function confirmClaim(core: Core, record: SandboxRecord, signal: AbortSignal): Promise<GuestLease> {
  const { sandbox_id, claim, ttl_s, idle_s } = record;
  const lease = { ...(claim !== undefined && { claim }), ttl_ms: ttl_s * 1000, idle_ms: idle_s * 1000 };
  return withGuest(core, sandbox_id, signal, (guest) => guest.setLease(lease, signal), { repeatable: true });
}

/** Removes a member and what the engine has of it; never one that became a sandbox meanwhile. */
export async function discardMember(core: Core, sandboxId: string): Promise<void> {
  const unused = await core.store.write(
    (tx) => {
      if (tx.sandbox(sandboxId)) return false;
      if (tx.poolMember(sandboxId)) tx.removePoolMember(sandboxId);
      return true;
    },
    { necessary: true },
  );
  if (!unused) return;
  await core.connections.drop(sandboxId);
  await core.backend.remove(sandboxId, deadline(removeMs));
}

/** The same beside what is done meanwhile. A container that stays has no member any more: the keeper removes it. */
export function discardLater(core: Core, sandboxId: string): void {
  discardMember(core, sandboxId).catch((err: unknown) => {
    core.logger.debug({ err, sandbox_id: sandboxId }, "a warm sandbox could not be removed yet");
  });
}

type Sized = Pick<PoolMember, "sandbox_id" | "resources" | "created_at">;

/** Pure: whether one more fits beside sandboxes and members. */
export function fits(
  wanted: Resources,
  live: readonly SandboxRecord[],
  members: readonly Sized[],
  policy: Policy,
  hostMemoryBytes: number,
): boolean {
  return lackOfRoom(wanted, [...live, ...members], policy, hostMemoryBytes) === undefined;
}

/** Pure: the members that give way to a sandbox which fits beside the live ones, as few as will do. */
export function givingWay(
  wanted: Resources,
  live: readonly SandboxRecord[],
  members: readonly PoolMember[],
  policy: Policy,
  hostMemoryBytes: number,
): PoolMember[] {
  for (let count = 0; count < members.length; count++) {
    if (fits(wanted, live, members.slice(count), policy, hostMemoryBytes)) return members.slice(0, count);
  }
  return [...members];
}
