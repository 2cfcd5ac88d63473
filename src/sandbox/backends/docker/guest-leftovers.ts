import { z } from "zod";
import { SandboxError } from "../../../errors.ts";
import type { EngineClient } from "./client.ts";
import { label } from "./labels.ts";
import { guestArchOf, guestVolumeOf, markerOf } from "./layout.ts";

const volumeList = z.object({ Volumes: z.array(z.object({ Name: z.string() })).nullish() });
const fillerRows = z.array(z.object({ Id: z.string(), Created: z.number().optional() }));
const systemTime = z.object({ SystemTime: z.string().optional() });

/** A filler works for less than a second; one this old was left by a server that died. */
const deadAfterMs = 60_000;
/** In one round: what is more waits for the next. */
const removedAtOnce = 20;

/**
 * Guest volumes are named after their content, so each version of the guest leaves one behind when the next comes. Removed are
 * those this install made and no container uses, but for `current`. Another install whose version shares such a volume fills
 * it anew when it needs it next, as it does when somebody prunes.
 * @returns how many things were removed
 */
export async function removeGuestLeftovers(
  engine: EngineClient,
  { installId, current, signal }: { installId: string; current: readonly string[]; signal: AbortSignal | undefined },
): Promise<number> {
  const context = { engine, signal, installId };
  let removed = 0;
  for (const id of await deadFillers(context)) removed += await remove(context, `/containers/${id}`);
  const [ours, unused] = await Promise.all([volumes(context), volumes(context, true)]);
  // An installation that lacks a binary does not know what is current of that architecture.
  const known = new Set(current.map(guestArchOf));
  const stale = new Set(
    ours.map(guestVolumeOf).filter((name) => !current.includes(name) && known.has(guestArchOf(name))),
  );
  const kept = new Set(ours);
  for (const name of stale) {
    if (removed >= removedAtOnce) break;
    if (kept.has(name) && !unused.includes(name)) continue;
    // The mark first: without it, nobody takes what is left for complete.
    if (kept.has(markerOf(name))) removed += await remove(context, `/volumes/${markerOf(name)}`);
    if (kept.has(name)) removed += await remove(context, `/volumes/${name}`);
  }
  return removed;
}

interface Context {
  engine: EngineClient;
  installId: string;
  signal: AbortSignal | undefined;
}

async function volumes({ engine, installId, signal }: Context, unused = false): Promise<string[]> {
  const filters = {
    label: [`${label.helper}=guest`, `${label.install}=${installId}`],
    ...(unused ? { dangling: ["true"] } : {}),
  };
  const { Volumes } = await engine.json(volumeList, {
    path: "/volumes",
    query: { filters: JSON.stringify(filters) },
    action: "list the guest's volumes",
    signal,
  });
  return (Volumes ?? []).map(({ Name }) => Name);
}

async function deadFillers({ engine, installId, signal }: Context): Promise<string[]> {
  const filters = { label: [`${label.helper}=guest-fill`, `${label.install}=${installId}`] };
  const rows = await engine.json(fillerRows, {
    path: "/containers/json",
    query: { all: "true", filters: JSON.stringify(filters) },
    action: "list what fills the guest's volumes",
    signal,
  });
  if (rows.length === 0) return [];
  const { SystemTime } = await engine.json(systemTime, { path: "/info", action: "tell its time", signal });
  const now = SystemTime === undefined ? Date.now() : Date.parse(SystemTime);
  return rows
    .filter(({ Created }) => Created !== undefined && now - Created * 1000 > deadAfterMs)
    .slice(0, removedAtOnce)
    .map(({ Id }) => Id);
}

/** 1, or 0 where somebody uses it after all or was faster. */
async function remove({ engine, signal }: Context, path: string): Promise<0 | 1> {
  try {
    await engine.run({ method: "DELETE", path, action: "remove what an older guest left", signal });
    return 1;
  } catch (error) {
    if (error instanceof SandboxError && ["CONFLICT", "SANDBOX_NOT_FOUND"].includes(error.code)) return 0;
    throw error;
  }
}
