import { hasCode } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import type { Call } from "./api.ts";
import type { Core } from "./core.ts";
import { execRow } from "./exec-records.ts";
import type { GuestExec } from "./guest/types.ts";
import { drainFacts, orLater } from "./ingest.ts";
import type { ExecRow } from "./views.ts";

/** Ended execs in a list; all that run are in it. */
const listedExecs = 200;

/** The execs of a sandbox, newest first, also of one that has ended. */
export async function listExecs(
  core: Core,
  sandbox: string,
  call: Call,
): Promise<{ execs: ExecRow[]; omitted?: number }> {
  const { store } = core;
  const id = findSandbox(core, sandbox).sandbox_id;
  const live = await liveExecs(core, id, call);
  const newest = store.execs(id, listedExecs);
  const listed = new Set(newest.map((row) => row.exec_id));
  // A server started first thing still runs after hundreds of other commands.
  const rows = [...newest, ...store.openExecs(id).filter((row) => !listed.has(row.exec_id))];
  const omitted = (store.sandbox(id)?.execs_total ?? 0) - rows.length;
  const execs = rows.map((row) => {
    const now = live.get(row.exec_id);
    if (row.completed || !now) return execRow(row);
    const { status, exit_code, duration_ms, stdout_bytes, stderr_bytes } = now;
    return { ...execRow(row), status, exit_code, duration_ms, stdout_bytes, stderr_bytes };
  });
  return { execs, ...(omitted > 0 && { omitted }) };
}

/** What the guest says of its execs, once the store knows all it has told; nothing of a sandbox that has ended. */
async function liveExecs(core: Core, id: string, call: Call): Promise<Map<string, GuestExec>> {
  const { state } = findSandbox(core, id);
  if (state !== "running" && state !== "paused") return new Map();
  try {
    const execs = await withGuest(
      core,
      id,
      call.signal,
      async (guest) => {
        await drainFacts(core, id, guest, call.signal).catch(orLater);
        return guest.listExecs(call.signal);
      },
      { repeatable: true },
    );
    return new Map(execs.map((exec) => [exec.exec_id, exec]));
  } catch (error) {
    if (hasCode(error, "SANDBOX_ENDED")) return new Map();
    throw error;
  }
}
