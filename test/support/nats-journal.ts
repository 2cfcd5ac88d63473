import type { JournalEntry, JournaledType } from "../../src/sandbox/events.ts";
import { uuidv7 } from "../../src/sandbox/ids.ts";
import type { Journal, JournalPage, Roles } from "../../src/sandbox/store/types.ts";

/** Events as real as their schemas ask, one of each journaled type. */
export const samples = {
  "lifecycle.created": {
    image: "chorus-sandbox/base",
    backend: "docker",
    runtime: "runc",
    profile: "strict",
    resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
    network: { mode: "none" },
    ttl_s: 3600,
    idle_s: 900,
    warm: true,
    origin: { client: "test 1", folder: "/tmp" },
  },
  "lifecycle.ready": { duration_ms: 7 },
  "lifecycle.updated": { changed: { ttl_s: { old: 1, new: 2 } } },
  "lifecycle.paused": { changed: { paused: { old: false, new: true } } },
  "lifecycle.resumed": { changed: { paused: { old: true, new: false } } },
  "lifecycle.expiring": { kind: "idle", in_s: 30 },
  "lifecycle.died": { exit_code: null, signal: "SIGKILL", oom_killed: true, expected: false, uptime_ms: 12 },
  "lifecycle.destroyed": { reason: "ttl", totals: { cpu_ms: 3, peak_memory_bytes: null, execs: 2 } },
  "lifecycle.failed": { stage: "create", code: "IMAGE_NOT_FOUND", message: "no", retryable: false },
  "exec.started": { exec_id: "ex_1", command: "true", cwd: "/workspace", tty: false },
  "exec.completed": {
    exec_id: "ex_1",
    command: "true",
    status: "exited",
    exit_code: 0,
    ended_by: "self",
    duration_ms: 1,
    stdout_bytes: 0,
    stderr_bytes: 0,
    omitted_bytes: 0,
  },
  "file.changed": { changes: [{ path: "/workspace/a", op: "write", size_bytes: 3 }] },
  "file.transferred": { direction: "upload", host_path: "/a", path: "/workspace/a", files: 1, bytes: 3, refused: 0 },
  "limit.oom": { kind: "memory", limit: 1, observed: 2, action: "killed", exec_id: "ex_1" },
  "limit.reached": { kind: "pids", limit: 1, observed: 1, action: "none" },
  "policy.denied": { what: "image", requested: "evil", allowed: ["good"], rule: "images" },
  "journal.dropped": { from_sequence: 1, to_sequence: 2, count: 2, why: "over the bound" },
} as const satisfies Record<JournaledType, Record<string, unknown>>;

export interface EmitOptions {
  type?: JournaledType;
  tenant?: string;
  host?: string;
  data?: Record<string, unknown>;
  time?: string;
  /** How long ago it was made, as its id has it. */
  ageMs?: number;
}

/** The journal's port in memory, with what a relay sees of a store that several processes share. */
export class MemoryJournal implements Journal {
  readonly told = new Map<string, number>();
  readonly #entries: JournalEntry[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #cursors = new Map<string, { cursor: number; sent_to?: number; at?: string }>();

  emit(
    sandbox_id: string,
    { type = "exec.started", tenant = "default", host = "h1", data, time, ageMs = 0 }: EmitOptions = {},
  ) {
    const sequence = (this.told.get(sandbox_id) ?? 0) + 1;
    this.told.set(sandbox_id, sequence);
    const common = { sandbox_id, host, tenant, labels: { app: "test" }, actor: { kind: "agent" }, state: "running" };
    const entry: JournalEntry = {
      cursor: this.#entries.length + 1,
      id: uuidv7(Date.now() - ageMs),
      sandbox_id,
      tenant,
      host,
      type,
      sequence,
      time: time ?? new Date().toISOString(),
      data: { ...common, ...samples[type], ...data },
    };
    this.#entries.push(entry);
    for (const listener of this.#listeners) setImmediate(listener);
    return entry;
  }

  newest = (): number => this.#entries.length;
  oldest = (): number => 1;
  latest = ({ limit }: { limit: number }): JournalEntry[] => this.#entries.slice(-limit);

  after(cursor: number, { limit, sandboxId }: { limit: number; sandboxId?: string }): JournalEntry[] {
    if (sandboxId === undefined) return this.#entries.slice(cursor, cursor + limit);
    return this.#entries.filter((entry) => entry.cursor > cursor && entry.sandbox_id === sandboxId).slice(0, limit);
  }

  page(cursor: number, options: { limit: number; sandboxId?: string }): JournalPage {
    const entries = this.after(cursor, options);
    const last = entries.length < options.limit ? this.newest() : entries.at(-1)?.cursor;
    return { entries, upTo: Math.max(cursor, last ?? 0) };
  }

  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  relayCursor = (target: string): ReturnType<Journal["relayCursor"]> => this.#cursors.get(target) ?? { cursor: 0 };

  async setRelayCursor(target: string, cursor: number, sentTo = 0): Promise<void> {
    const sent_to = Math.max(sentTo, this.relayCursor(target).sent_to ?? 0);
    this.#cursors.set(target, { cursor, sent_to, at: new Date().toISOString() });
  }
}

/** Roles of several processes in one: each gets its own view of the same table. */
export class MemoryRoles {
  readonly #held = new Map<string, { by: string; at: number }>();
  readonly dead = new Set<string>();

  of(process: string): Roles {
    return {
      hold: async (role, staleMs) => {
        const holder = this.#held.get(role);
        const free = !holder || holder.by === process || this.dead.has(holder.by) || Date.now() - holder.at > staleMs;
        if (free) this.#held.set(role, { by: process, at: Date.now() });
        return free;
      },
      release: async (role) => {
        if (this.#held.get(role)?.by === process) this.#held.delete(role);
      },
      holder: () => undefined,
    };
  }
}
