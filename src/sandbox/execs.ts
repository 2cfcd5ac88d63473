import { setTimeout as delay } from "node:timers/promises";
import { hasCode } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import type { Call, ExecInputRequest, ExecOutputRequest, ExecRequest } from "./api.ts";
import { leaseLeftMs } from "./boot-clock.ts";
import type { Core } from "./core.ts";
import { writeInput } from "./exec-input.ts";
import { listExecs } from "./exec-list.ts";
import { pastExec, unknownExec } from "./exec-records.ts";
import { execStart, feedStdin, orHalfGiven, orUnsure, type Started } from "./exec-start.ts";
import { followed } from "./follow.ts";
import type { ExecSnapshot, ExecView, Guest, GuestExec } from "./guest/types.ts";
import { newExecId } from "./ids.ts";
import { drainFacts, ingest, isCut, orLater } from "./ingest.ts";
import { isTerminal, requireBorn, requireInside, requireRunning } from "./lifecycle.ts";
import { execResult } from "./output.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { ExecResult, ExecRow } from "./views.ts";
import { abortable } from "./wait.ts";

const defaultWaitS = 30;
const defaultOutputBytes = 16 * 1024;
/** A start that was cancelled may get through after the first try to kill it. */
const cancelAgainMs = 500;
/** Events among which an exec's start is looked for. */
const lookedBack = 100;

/** Running commands. */
export class Execs {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  async run(sandbox: string, request: ExecRequest, call: Call): Promise<ExecResult> {
    const record = findSandbox(this.#core, sandbox);
    const started = execStart(request, call);
    requireRunning(record);
    this.#core.store.requireRoom();
    const execId = newExecId(this.#core.store.installId, record.execs_total);
    const left = countdown((request.wait_s ?? defaultWaitS) * 1000);
    const view = execView(request, record);
    let sent = false;
    try {
      return await withGuest(
        this.#core,
        record.sandbox_id,
        call.signal,
        async (guest) => {
          const asked = this.#core.store.journal.newest();
          sent = true;
          const work = this.#start(guest, execId, started, { ...view, wait_ms: left() }, call.signal);
          const report = left() > 0 ? call.progress : undefined;
          const snapshot = await followed(work, guest, execId, { stdout: 0, stderr: 0 }, report);
          return this.#answer(record, guest, asked, snapshot, view, call.signal, started.start.timeout_ms);
        },
        // The id makes it start once, however often it is asked; stdin that is fed would come twice.
        { repeatable: started.feed === undefined },
      );
    } catch (error) {
      if (call.signal.aborted) void this.#cancel(record.sandbox_id, execId);
      throw sent ? orUnsure(record.sandbox_id, execId, error) : error;
    }
  }

  async #start(
    guest: Guest,
    execId: string,
    { start, feed }: Started,
    view: ExecView,
    signal: AbortSignal,
  ): Promise<ExecSnapshot> {
    if (!feed) return abortable(guest.startExec(execId, start, view, signal), signal);
    try {
      await abortable(guest.startExec(execId, start, { max_bytes: 0 }, signal), signal);
      void feedStdin(guest, execId, feed, (err) => {
        this.#core.logger.warn({ err, exec_id: execId }, "stdin of a command was not sent to its end");
      });
      return await abortable(guest.viewExec(execId, view, signal), signal);
    } catch (error) {
      throw orHalfGiven(execId, error);
    }
  }

  async output(sandbox: string, execId: string, request: ExecOutputRequest, call: Call): Promise<ExecResult> {
    const record = findSandbox(this.#core, sandbox);
    const offsets = { stdout: request.stdout_offset ?? 0, stderr: request.stderr_offset ?? 0 };
    if (isTerminal(record.state)) return this.#past(record, execId, offsets);
    requireBorn(record);
    const left = countdown((request.wait_s ?? 0) * 1000);
    const view = execView(request, record);
    try {
      return await withGuest(
        this.#core,
        record.sandbox_id,
        call.signal,
        async (guest) => {
          const asked = this.#core.store.journal.newest();
          const waitMs = left();
          const work = abortable(guest.viewExec(execId, { ...view, wait_ms: waitMs }, call.signal), call.signal);
          const report = waitMs > 0 ? call.progress : undefined;
          return this.#answer(
            record,
            guest,
            asked,
            await followed(work, guest, execId, offsets, report),
            view,
            call.signal,
          );
        },
        { repeatable: true },
      );
    } catch (error) {
      const now = findSandbox(this.#core, record.sandbox_id);
      if (hasCode(error, "SANDBOX_ENDED") && isTerminal(now.state)) return this.#past(now, execId, offsets);
      throw this.#orUnknown(error, record, execId);
    }
  }

  /** Of a sandbox that has ended: what the store tells of the exec. */
  #past(record: SandboxRecord, execId: string, offsets: { stdout: number; stderr: number }): ExecResult {
    const { store } = this.#core;
    const exec = store.exec(record.sandbox_id, execId);
    if (exec) return pastExec(exec, record, offsets, String(store.journal.newest()));
    throw unknownExec(this.#core, record.sandbox_id, execId);
  }

  async input(
    sandbox: string,
    execId: string,
    request: ExecInputRequest,
    call: Call,
  ): Promise<{ accepted_bytes: number }> {
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    try {
      return await withGuest(
        this.#core,
        record.sandbox_id,
        call.signal,
        (guest) => abortable(writeInput(guest, execId, request, call.signal), call.signal),
        { repeatable: false },
      );
    } catch (error) {
      throw this.#orUnknown(error, record, execId);
    }
  }

  async kill(
    sandbox: string,
    execId: string,
    request: { signal?: string | undefined; grace_s?: number | undefined },
    call: Call,
  ): Promise<ExecResult> {
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    const kill = { signal: request.signal ?? "TERM", grace_ms: (request.grace_s ?? 2) * 1000, by: "kill" as const };
    const view: ExecView = { max_bytes: defaultOutputBytes, facts_after: record.fact_cursor };
    try {
      return await withGuest(
        this.#core,
        record.sandbox_id,
        call.signal,
        async (guest) => {
          await abortable(guest.killExec(execId, kill, call.signal), call.signal);
          const asked = this.#core.store.journal.newest();
          return this.#answer(record, guest, asked, await guest.viewExec(execId, view, call.signal), view, call.signal);
        },
        { repeatable: true },
      );
    } catch (error) {
      throw this.#orUnknown(error, record, execId);
    }
  }

  list(sandbox: string, call: Call): Promise<{ execs: ExecRow[]; omitted?: number }> {
    return listExecs(this.#core, sandbox, call);
  }

  /**
   * Journals what the answer told, then renders it.
   * @param asked the journal's newest cursor before the guest was asked
   */
  async #answer(
    record: SandboxRecord,
    guest: Guest,
    asked: number,
    snapshot: ExecSnapshot,
    view: ExecView,
    signal: AbortSignal,
    timeoutMs?: number,
  ): Promise<ExecResult> {
    const { store } = this.#core;
    const id = record.sandbox_id;
    const { facts, exec } = snapshot;
    if (facts) await ingest(this.#core, id, facts, guest).catch(orLater);
    // One page tells of the exec, but after a time in which nothing could be journaled.
    if (facts && exec.status !== "running" && isCut(facts))
      await drainFacts(this.#core, id, guest, signal).catch(orLater);
    const now = store.sandbox(id);
    return execResult(snapshot, view, {
      eventCursor: String(this.#cursor(id, exec, asked)),
      memoryMb: record.resources.memory_mb,
      timeoutMs,
      ttlRemainingMs: now && leaseLeftMs(now),
    });
  }

  /**
   * Where to go on after an answer. Meanwhile others may have told what it does not say yet, the end of the exec first of all; but
   * that the exec started is no news to who reads it.
   */
  #cursor(sandboxId: string, exec: GuestExec, asked: number): number {
    const { journal } = this.#core.store;
    if (exec.status !== "running") return journal.newest();
    const since = journal.after(asked, { limit: lookedBack, sandboxId });
    const started = since.find(({ type, data }) => type === "exec.started" && data["exec_id"] === exec.exec_id);
    return started?.cursor ?? asked;
  }

  #orUnknown(error: unknown, record: SandboxRecord, execId: string): unknown {
    return hasCode(error, "EXEC_NOT_FOUND") ? unknownExec(this.#core, record.sandbox_id, execId) : error;
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
  if (!hasCode(error, "EXEC_NOT_FOUND")) throw error;
}

/** Milliseconds that are left of a wait: a second attempt must not wait the whole time again. */
function countdown(ms: number): () => number {
  const end = performance.now() + ms;
  return () => Math.max(0, Math.round(end - performance.now()));
}

/** What run and output ask the guest for, but for the time to wait. */
function execView(request: ExecRequest & ExecOutputRequest, record: SandboxRecord): ExecView {
  const { stdout_offset, stderr_offset, tail_lines, match, until_match } = request;
  return {
    until: request.until ?? "exit",
    max_bytes: request.max_output_bytes ?? defaultOutputBytes,
    ...(until_match !== undefined && { until_match }),
    ...(tail_lines !== undefined && { tail_lines }),
    ...(match !== undefined && { match }),
    ...(stdout_offset !== undefined && { stdout_offset }),
    ...(stderr_offset !== undefined && { stderr_offset }),
    facts_after: record.fact_cursor,
  };
}
