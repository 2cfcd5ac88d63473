import { type ChildProcess, fork, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { onTestFinished } from "vitest";
import type { SandboxEvent } from "../../src/sandbox/events.ts";
import { openStore, type StoreOptions } from "../../src/sandbox/store/index.ts";
import type { ExecRecord, SandboxRecord, Store } from "../../src/sandbox/store/types.ts";

/** A data dir that goes with the test. */
export async function newDataDir(): Promise<string> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "chorus-store-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  return dataDir;
}

export async function newStore(options: Partial<StoreOptions> = {}): Promise<Store> {
  const store = await openStore({ host: "host-1", ...options, dataDir: options.dataDir ?? (await newDataDir()) });
  onTestFinished(async () => store[Symbol.asyncDispose]());
  return store;
}

export function sandboxRecord(sandboxId: string, changes: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    sandbox_id: sandboxId,
    tenant: "acme",
    engine_id: "engine-1",
    state: "running",
    backend: "memory",
    runtime: "none",
    image: "docker.io/library/debian:12",
    profile: "strict",
    resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
    network: { mode: "none" },
    ttl_s: 3600,
    idle_s: 900,
    uid: 20001,
    spec_hash: "spec",
    labels: { team: "red" },
    env_keys: [],
    origin: { client: "test", folder: "/" },
    warm: false,
    creator: "ps_1",
    created_at: "2026-01-01T00:00:00.000Z",
    last_used_at: "2026-01-01T00:00:00.000Z",
    fact_cursor: 0,
    sequence: 0,
    execs_total: 0,
    ...changes,
  };
}

export function execRecord(sandboxId: string, execId: string, changes: Partial<ExecRecord> = {}): ExecRecord {
  return {
    exec_id: execId,
    sandbox_id: sandboxId,
    command: "true",
    cwd: "/workspace",
    tty: false,
    started_at: "2026-01-01T00:00:00.000Z",
    started_event: "event",
    ...changes,
  };
}

export const completed: NonNullable<ExecRecord["completed"]> = {
  status: "exited",
  exit_code: 0,
  ended_by: "self",
  oom_kills: 0,
  duration_ms: 1,
  stdout_bytes: 0,
  stderr_bytes: 0,
  at: "2026-01-01T00:00:01.000Z",
};

export const execStarted = (execId: string, command = "true"): SandboxEvent => ({
  type: "exec.started",
  data: { exec_id: execId, command, cwd: "/workspace", tty: false },
  actor: { kind: "agent", client: "test 1.0" },
});

export const fileChanged = (file: string): SandboxEvent => ({
  type: "file.changed",
  data: { changes: [{ path: file, op: "write", size_bytes: 1 }] },
  actor: { kind: "agent" },
});

/**
 * What a process that opens the store may do to the others in `mdb_env_open2`: the number of the newest commit becomes one
 * that was read before the last commit. In a process of its own, as closing lock.mdb costs a process LMDB's locks.
 */
export function turnBack(dataDir: string): void {
  const script = `
    const fs = require("node:fs"), lock = fs.openSync(process.argv[1], "r+"), number = Buffer.alloc(8);
    fs.readSync(lock, number, 0, 8, 8);
    number.writeBigUInt64LE(number.readBigUInt64LE() - 1n);
    fs.writeSync(lock, number, 0, 8, 8);`;
  const { status, stderr } = spawnSync(process.execPath, ["-e", script, path.join(dataDir, "store", "lock.mdb")]);
  if (status !== 0) throw new Error(String(stderr));
}

const worker = path.resolve(import.meta.dirname, "store-worker.mjs");
const built = path.resolve(import.meta.dirname, "../../dist/sandbox/store/index.js");

/** Another server process with the store open, driven by messages. */
export class StoreProcess {
  readonly child: ChildProcess;
  readonly #replies = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;
  /** Called with everything the process says unasked. */
  onNote: (note: unknown) => void = () => {};

  private constructor(child: ChildProcess) {
    this.child = child;
    child.on("message", (message: { id?: number; value?: unknown; error?: string; note?: unknown }) => {
      if (message.id === undefined) return this.onNote(message.note);
      const waiting = this.#replies.get(message.id);
      this.#replies.delete(message.id);
      if (message.error === undefined) waiting?.resolve(message.value);
      else waiting?.reject(new Error(message.error));
    });
    child.on("exit", () => {
      for (const { reject } of this.#replies.values()) reject(new Error("the process ended"));
    });
  }

  /** @param prefix command line that runs the worker, such as one that gives it a small disk at the data dir */
  static async start(options: { dataDir: string } & Record<string, unknown>, prefix?: string[]): Promise<StoreProcess> {
    if (!existsSync(built)) throw new Error("dist/ is missing: run `npm run build` before these tests.");
    const args = [built, JSON.stringify({ host: "host-1", ...options })];
    const [command, ...before] = prefix ?? [];
    const child =
      command === undefined
        ? fork(worker, args, { execArgv: [] })
        : spawn(command, [...before, process.execPath, worker, ...args], {
            stdio: ["ignore", "inherit", "pipe", "ipc"],
          });
    onTestFinished(() => void child.kill("SIGKILL"));
    const started = new StoreProcess(child);
    await started.ask("open");
    return started;
  }

  /** Runs a command of store-worker.mjs there. */
  async ask(op: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const id = this.#next++;
    const reply = new Promise<unknown>((resolve, reject) => this.#replies.set(id, { resolve, reject }));
    this.child.send({ id, op, args });
    return await reply;
  }

  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }
}
