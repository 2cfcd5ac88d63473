import { setTimeout as delay } from "node:timers/promises";
import { SandboxError } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import type { Call, ExecOutputRequest, ExecRequest } from "./api.ts";
import { leaseLeftMs } from "./boot-clock.ts";
import type { Core } from "./core.ts";
import { workdir } from "./core.ts";
import type { ExecMeta } from "./facts.ts";
import type { ExecSnapshot, ExecStart, ExecView, Guest } from "./guest/types.ts";
import { newExecId } from "./ids.ts";
import { ingest } from "./ingest.ts";
import { requireLive, requireRunning } from "./lifecycle.ts";
import { execResult } from "./output.ts";
import type { ExecRecord, SandboxRecord } from "./store/types.ts";
import type { ExecResult, ExecRow } from "./views.ts";
import { abortable } from "./wait.ts";

const defaultWaitS = 30;
const defaultOutputBytes = 16 * 1024;
/** Room for output in an answer once escaped as JSON; the rest of the 64 KiB is for the fields around it. */
const maxEscapedBytes = 56 * 1024;

/** Ended execs in a list; all that run are in it. */
const listedExecs = 200;
/** A start that was cancelled may get through after the first try to kill it. */
const cancelAgainMs = 500;

/** Running commands. */
export class Execs {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  async run(sandbox: string, request: ExecRequest, call: Call): Promise<ExecResult> {
    if ((request.command === undefined) === (request.argv === undefined)) {
      throw new SandboxError("INVALID_ARGUMENT", "Give exactly one of `command` (a shell line) and `argv` (a list).");
    }
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    const execId = newExecId();
    const start = execStart(request, call);
    const left = countdown((request.wait_s ?? defaultWaitS) * 1000);
    const view: ExecView = {
      until: "exit",
      max_bytes: request.max_output_bytes ?? defaultOutputBytes,
      facts_after: record.fact_cursor,
    };
    try {
      return await withGuest(
        this.#core,
        record.sandbox_id,
        call.signal,
        async (guest) => {
          const waiting = { ...view, wait_ms: left() };
          const snapshot = await abortable(guest.startExec(execId, start, waiting, call.signal), call.signal);
          return this.#answer(record, guest, snapshot, view, start.timeout_ms);
        },
        // The id makes it start once, however often it is asked.
        { repeatable: true },
      );
    } catch (error) {
      if (call.signal.aborted) void this.#cancel(record.sandbox_id, execId);
      throw error;
    }
  }

  async output(sandbox: string, execId: string, request: ExecOutputRequest, call: Call): Promise<ExecResult> {
    const record = findSandbox(this.#core, sandbox);
    requireLive(record);
    const left = countdown((request.wait_s ?? 0) * 1000);
    const view: ExecView = {
      until: request.until ?? "exit",
      max_bytes: request.max_output_bytes ?? defaultOutputBytes,
      stdout_offset: request.stdout_offset ?? 0,
      stderr_offset: request.stderr_offset ?? 0,
      facts_after: record.fact_cursor,
    };
    return withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      async (guest) => {
        const waiting = { ...view, wait_ms: left() };
        const snapshot = await abortable(guest.viewExec(execId, waiting, call.signal), call.signal);
        return this.#answer(record, guest, snapshot, view);
      },
      { repeatable: true },
    );
  }

  async kill(
    sandbox: string,
    execId: string,
    request: { signal?: string | undefined; grace_s?: number | undefined },
    call: Call,
  ): Promise<ExecResult> {
    const record = findSandbox(this.#core, sandbox);
    requireLive(record);
    const kill = { signal: request.signal ?? "TERM", grace_ms: (request.grace_s ?? 2) * 1000, by: "kill" as const };
    const view: ExecView = { max_bytes: defaultOutputBytes, facts_after: record.fact_cursor };
    return withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      async (guest) => {
        await abortable(guest.killExec(execId, kill, call.signal), call.signal);
        return this.#answer(record, guest, await guest.viewExec(execId, view, call.signal), view);
      },
      { repeatable: true },
    );
  }

  async list(sandbox: string, call: Call): Promise<{ execs: ExecRow[] }> {
    const record = findSandbox(this.#core, sandbox);
    const { store } = this.#core;
    const newest = store.execs(record.sandbox_id, listedExecs);
    const listed = new Set(newest.map((row) => row.exec_id));
    // A server started first thing still runs after hundreds of other commands.
    const rows = [...newest, ...store.openExecs(record.sandbox_id).filter((row) => !listed.has(row.exec_id))];
    if (record.state !== "running" || rows.every((row) => row.completed))
      return { execs: rows.map((row) => execRow(row)) };
    const running = await withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      (guest) => guest.listExecs(call.signal),
      {
        repeatable: true,
      },
    );
    const live = new Map(running.map((exec) => [exec.exec_id, exec]));
    return {
      execs: rows.map((row) => {
        const now = live.get(row.exec_id);
        if (row.completed || !now) return execRow(row);
        return {
          ...execRow(row),
          duration_ms: now.duration_ms,
          stdout_bytes: now.stdout_bytes,
          stderr_bytes: now.stderr_bytes,
        };
      }),
    };
  }

  /** Journals what the answer told, then renders it, smaller if its escaped form would burst the result. */
  async #answer(
    record: SandboxRecord,
    guest: Guest,
    snapshot: ExecSnapshot,
    view: ExecView,
    timeoutMs?: number,
  ): Promise<ExecResult> {
    const { store } = this.#core;
    const id = record.sandbox_id;
    if (snapshot.facts) await ingest(this.#core, id, snapshot.facts, guest);
    const now = store.sandbox(id);
    const offsets = { stdout: view.stdout_offset ?? 0, stderr: view.stderr_offset ?? 0 };
    const context = {
      eventCursor: String(store.journal.newest()),
      memoryMb: record.resources.memory_mb,
      timeoutMs,
      ttlRemainingMs: now && leaseLeftMs(now),
    };
    let result = execResult(snapshot, offsets, context);
    for (let maxBytes = view.max_bytes ?? defaultOutputBytes; maxBytes > 1024; ) {
      const escaped = escapedBytes(result);
      if (escaped <= maxEscapedBytes) break;
      maxBytes = Math.max(1024, Math.floor((maxBytes * maxEscapedBytes * 0.9) / escaped));
      const { facts_after: _, ...smaller } = { ...view, max_bytes: maxBytes };
      result = execResult(await guest.viewExec(snapshot.exec.exec_id, smaller), offsets, context);
    }
    return result;
  }

  /** The caller cancelled: what it started ends, whether or not the start had got through. */
  async #cancel(sandboxId: string, execId: string): Promise<void> {
    const { connections, logger } = this.#core;
    const kill = { signal: "KILL", grace_ms: 0, by: "cancel" as const };
    try {
      for (const waitMs of [0, cancelAgainMs]) {
        await delay(waitMs, undefined, { ref: false });
        const guest = await connections.guest(sandboxId);
        const found = await guest.killExec(execId, kill).catch(orNotFound);
        if (found) return;
      }
    } catch (err) {
      logger.warn({ err, sandbox_id: sandboxId, exec_id: execId }, "cancelled exec could not be killed");
    }
  }
}

function orNotFound(error: unknown): undefined {
  if (!(error instanceof SandboxError) || error.code !== "EXEC_NOT_FOUND") throw error;
}

/** Milliseconds that are left of a wait: a second attempt must not wait the whole time again. */
function countdown(ms: number): () => number {
  const end = performance.now() + ms;
  return () => Math.max(0, Math.round(end - performance.now()));
}

function execStart(request: ExecRequest, call: Call): ExecStart {
  const tty = request.tty_rows !== undefined || request.tty_cols !== undefined;
  const meta: ExecMeta = { client: call.client, ...(call.traceparent && { traceparent: call.traceparent }) };
  return {
    ...(request.command !== undefined && { command: request.command }),
    ...(request.argv !== undefined && { argv: request.argv }),
    cwd: request.cwd ?? workdir,
    ...(request.env && { env: request.env }),
    ...(request.stdin !== undefined && { stdin: request.stdin }),
    ...(request.keep_stdin && { keep_stdin: true }),
    ...(tty && { tty: { rows: request.tty_rows ?? 24, cols: request.tty_cols ?? 80 } }),
    ...(request.merge_stderr && { merge_stderr: true }),
    ...(request.timeout_s !== undefined && { timeout_ms: Math.round(request.timeout_s * 1000) }),
    meta,
  };
}

export function execRow(record: ExecRecord): ExecRow {
  const { completed } = record;
  return {
    exec_id: record.exec_id,
    command: record.command,
    status: completed?.status ?? "running",
    exit_code: completed?.status === "exited" ? completed.exit_code : null,
    started_at: record.started_at,
    duration_ms: completed?.duration_ms ?? null,
    stdout_bytes: completed?.stdout_bytes ?? null,
    stderr_bytes: completed?.stderr_bytes ?? null,
  };
}

/** Length of the output inside a JSON answer; plain text is measured without building the JSON. */
function escapedBytes({ stdout, stderr }: ExecResult): number {
  const plain = stdout.length + stderr.length;
  if (plain * 6 <= maxEscapedBytes) return plain;
  return Buffer.byteLength(JSON.stringify(stdout)) + Buffer.byteLength(JSON.stringify(stderr));
}
