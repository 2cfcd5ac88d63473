import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { newSandboxId } from "../../src/sandbox/ids.ts";
import { openStore } from "../../src/sandbox/store/index.ts";
import type { SandboxRecord } from "../../src/sandbox/store/types.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Sources as JavaScript, for child processes; beside the packages they import. */
export function compileSources(): string {
  const cache = join(root, "node_modules/.cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "nats-test-"));
  const config = [
    "-p",
    "tsconfig.build.json",
    "--outDir",
    folder,
    "--incremental",
    "false",
    "--tsBuildInfoFile",
    "null",
  ];
  const { stdout } = spawnSync(join(root, "node_modules/.bin/tsc"), config, { cwd: root, encoding: "utf8" });
  if (!existsSync(join(folder, "events/publisher.js"))) throw new Error(`tsc wrote nothing: ${stdout}`);
  return folder;
}

/** A real store with sandboxes that can tell events. */
export async function storeWithSandboxes(count: number) {
  const dataDir = mkdtempSync(join(tmpdir(), "chorus-nats-store-"));
  const store = await openStore({ dataDir, host: "h1" });
  const ids = Array.from({ length: count }, newSandboxId);
  await store.write((tx) => {
    for (const [index, id] of ids.entries()) tx.putSandbox(record(id, index));
  });
  const told = new Map<string, number>();
  /** One fact, as every exec tells one. */
  const emit = (sandbox_id: string) => {
    told.set(sandbox_id, (told.get(sandbox_id) ?? 0) + 1);
    return store.write((tx) =>
      tx.emit(sandbox_id, {
        type: "exec.started",
        data: { exec_id: "ex_1", command: "true", cwd: "/workspace", tty: false },
        actor: { kind: "agent", client: "test 1" },
      }),
    );
  };
  const dispose = async () => {
    await store[Symbol.asyncDispose]();
    rmSync(dataDir, { recursive: true, force: true });
  };
  return { store, dataDir, ids, told, emit, [Symbol.asyncDispose]: dispose };
}

export async function relayChild(built: string, dataDir: string, url: string) {
  const script = fileURLToPath(new URL("nats-relay-child.mjs", import.meta.url));
  const child = spawn(process.execPath, [script, built, dataDir, url], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Error("the relay ended while starting")));
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return exited;
  };
  return { end };
}

function record(sandbox_id: string, index: number): SandboxRecord {
  const now = new Date().toISOString();
  return {
    sandbox_id,
    tenant: "default",
    engine_id: "e",
    state: "running",
    backend: "memory",
    runtime: "none",
    image: "base",
    profile: "strict",
    resources: { cpus: 1, memory_mb: 1, pids: 1, workspace_mb: 1 },
    network: { mode: "none" },
    ttl_s: 1,
    idle_s: 1,
    uid: 20_000 + index,
    spec_hash: "",
    labels: {},
    env_keys: [],
    origin: { client: "test", folder: "/" },
    warm: false,
    creator: "",
    created_at: now,
    last_used_at: now,
    fact_cursor: 0,
    sequence: 0,
    execs_total: 0,
  };
}
