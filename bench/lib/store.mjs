// @ts-check
/** The store of the build, without a server around it. */
import { join } from "node:path";
import { built } from "./guest.mjs";
import { withFolder } from "./host.mjs";
import { parallel } from "./measure.mjs";

/** Writes under way at once, as from many calls. */
const IN_FLIGHT = 64;

/**
 * @template T
 * @param {number} sandboxes
 * @param {(store: any, ids: string[], dataDir: string) => Promise<T>} work
 */
export async function withStore(sandboxes, work) {
  const { openStore } = await built("sandbox/store/index.js");
  const { newSandboxId } = await built("sandbox/ids.js");
  return withFolder(async (folder) => {
    const dataDir = join(folder, "data");
    const store = await openStore({ dataDir, host: "bench" });
    try {
      /** @type {string[]} */
      const ids = Array.from({ length: sandboxes }, newSandboxId);
      await store.write((/** @type {any} */ tx) => {
        for (const [at, id] of ids.entries()) tx.putSandbox(record(id, at));
      });
      return await work(store, ids, dataDir);
    } finally {
      await store[Symbol.asyncDispose]();
    }
  });
}

/** Events of a size as execs tell them, each in a transaction of its own. @param {any} store @param {string[]} ids @param {number} count */
export const tell = (store, ids, count) =>
  parallel(count, IN_FLIGHT, (i) =>
    store.write((/** @type {any} */ tx) =>
      tx.emit(ids[i % ids.length] ?? "", {
        type: "exec.completed",
        data: {
          exec_id: `ex_${i}`,
          command: "npm test -- --reporter=dot",
          status: "exited",
          exit_code: 0,
          ended_by: "self",
          duration_ms: 1,
          stdout_bytes: 100,
          stderr_bytes: 0,
          omitted_bytes: 0,
        },
        actor: { kind: "agent", client: "bench 1" },
      }),
    ),
  );

/** @param {string} sandbox_id @param {number} at */
function record(sandbox_id, at) {
  const now = new Date().toISOString();
  return {
    sandbox_id,
    tenant: "default",
    engine_id: "bench",
    state: "running",
    backend: "memory",
    runtime: "none",
    image: "base",
    profile: "strict",
    resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
    network: { mode: "none" },
    ttl_s: 3600,
    idle_s: 900,
    uid: 20_000 + at,
    spec_hash: "",
    labels: {},
    env_keys: [],
    origin: { client: "bench", folder: "/" },
    warm: false,
    creator: "",
    created_at: now,
    last_used_at: now,
    fact_cursor: 0,
    sequence: 0,
    execs_total: 0,
  };
}
