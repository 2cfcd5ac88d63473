import type { Duplex } from "node:stream";
import { quoted } from "../../errors.ts";
import { GuestFiles } from "./file-client.ts";
import { maxHeaderBytes, nonsense } from "./framing.ts";
import { cap, execPath, get, query, send } from "./requests.ts";
import * as schemas from "./schemas.ts";
import { GuestSession } from "./session.ts";
import { checkFacts, parseSnapshot } from "./snapshot.ts";
import type { ExecSnapshot, ExecStart, ExecView, Guest, LeaseChange, Tell } from "./types.ts";

export interface GuestOptions {
  /** How long an answer may take beyond the wait that was asked for, in ms. @default 10000 */
  answerMs?: number;
}

/** `max_bytes` of the guest when none is asked for. */
const defaultViewBytes = 16 * 1024;
/** What cuts on line and character borders may add. */
const slackBytes = 1024;
/** Longer than any exec lives, and as long as a timer can wait. */
const longestMs = 2_000_000_000;
/** `grace_ms` of the guest when none is asked for. */
const defaultGraceMs = 2000;

/**
 * Opens a session with the guest at the other end of the stream, which the session owns from now on. Returns at once: the first
 * call finds out whether anyone answers.
 */
export function connectGuest(stream: Duplex, options: GuestOptions = {}): Guest {
  return new GuestClient(new GuestSession(stream, options.answerMs ?? 10_000));
}

class GuestClient extends GuestFiles implements Guest {
  readonly #session: GuestSession;

  constructor(session: GuestSession) {
    super(session);
    this.#session = session;
  }

  get closed(): Promise<void> {
    return this.#session.closed;
  }

  get isClosed(): boolean {
    return this.#session.isClosed;
  }

  health(signal?: AbortSignal) {
    const question = get("a call for its health", "/v1/health", { maxBytes: cap.small, signal });
    return this.#session.askJson(question, schemas.health);
  }

  setLease(lease: LeaseChange, signal?: AbortSignal) {
    const question = send("PUT", "a change of its lease", "/v1/lease", lease, { maxBytes: cap.small, signal });
    return this.#session.askJson(question, schemas.lease);
  }

  async patchEnv(change: { set: Record<string, string>; unset: string[] }, signal?: AbortSignal) {
    const question = send("PATCH", "a change of its env", "/v1/env", change, { maxBytes: cap.medium, signal });
    return (await this.#session.askJson(question, schemas.envKeys)).keys;
  }

  async programs(signal?: AbortSignal) {
    const question = get("a call for its programs", "/v1/programs", { maxBytes: cap.small, signal });
    return (await this.#session.askJson(question, schemas.programs)).programs;
  }

  startExec(execId: string, start: ExecStart, view: ExecView, signal?: AbortSignal) {
    return this.#snapshot(
      `start of exec ${quoted(execId)}`,
      execPath(execId),
      { ...start, view },
      execId,
      view,
      signal,
    );
  }

  viewExec(execId: string, view: ExecView, signal?: AbortSignal) {
    return this.#snapshot(`view of exec ${quoted(execId)}`, `${execPath(execId)}/view`, view, execId, view, signal);
  }

  async #snapshot(
    what: string,
    path: string,
    body: unknown,
    execId: string,
    view: ExecView,
    signal: AbortSignal | undefined,
  ): Promise<ExecSnapshot> {
    const maxBytes = (view.max_bytes ?? defaultViewBytes) + slackBytes;
    const options = { maxBytes: maxHeaderBytes + maxBytes, waitMs: view.wait_ms ?? 0, signal };
    const answer = await this.#session.ask(send("POST", what, path, body, options));
    return parseSnapshot(what, answer, { execId, view, maxBytes });
  }

  streamExec(execId: string, offsets: { stdout_offset?: number; stderr_offset?: number }, signal?: AbortSignal) {
    const path = `${execPath(execId)}/stream${query({ ...offsets })}`;
    const question = get(`stream of exec ${quoted(execId)}`, path, { maxBytes: Number.MAX_SAFE_INTEGER, signal });
    return this.#session.stream(question);
  }

  async killExec(
    execId: string,
    kill: { signal?: string; grace_ms?: number; by?: "kill" | "cancel" },
    signal?: AbortSignal,
  ) {
    const what = `kill of exec ${quoted(execId)}`;
    const options = { maxBytes: cap.medium, waitMs: kill.grace_ms ?? defaultGraceMs, signal };
    const question = send("POST", what, `${execPath(execId)}/kill`, kill, options);
    const { exec } = await this.#session.askJson(question, schemas.killed);
    if (exec.exec_id !== execId) throw nonsense(what, "it tells of another exec");
    return exec;
  }

  writeStdin(execId: string, bytes: Buffer, eof: boolean, signal?: AbortSignal, waitMs?: number) {
    return this.#input(execId, bytes, { eof: eof ? 1 : 0, wait_ms: waitMs }, waitMs ?? 0, signal);
  }

  feedStdin(execId: string, bytes: Buffer, eof: boolean, signal?: AbortSignal) {
    return this.#input(execId, bytes, { eof: eof ? 1 : 0 }, longestMs, signal);
  }

  async #input(
    execId: string,
    bytes: Buffer,
    options: Record<string, number | undefined>,
    waitMs: number,
    signal: AbortSignal | undefined,
  ) {
    const what = `input of exec ${quoted(execId)}`;
    const path = `${execPath(execId)}/stdin${query(options)}`;
    const contentType = "application/octet-stream";
    const { accepted_bytes } = await this.#session.askJson(
      { what, method: "POST", path, body: [bytes], contentType, maxBytes: cap.small, waitMs, signal },
      schemas.acceptedBytes,
    );
    if (accepted_bytes > bytes.length) throw nonsense(what, "it accepted more than was sent");
    return accepted_bytes;
  }

  resize(execId: string, size: { rows: number; cols: number }, signal?: AbortSignal) {
    return this.#tell("POST", `resize of exec ${quoted(execId)}`, `${execPath(execId)}/resize`, size, signal);
  }

  async listExecs(signal?: AbortSignal) {
    const question = get("a list of its execs", "/v1/execs", { maxBytes: cap.execs, signal });
    return (await this.#session.askJson(question, schemas.execs)).execs;
  }

  async facts(after: number, waitMs: number, signal?: AbortSignal) {
    const what = `a call for facts after ${after}`;
    const path = `/v1/facts${query({ after, wait_ms: waitMs })}`;
    const facts = await this.#session.askJson(get(what, path, { maxBytes: cap.facts, waitMs, signal }), schemas.facts);
    checkFacts(what, after, facts);
    return facts;
  }

  stats(signal?: AbortSignal) {
    return this.#session.askJson(
      get("a call for its stats", "/v1/stats", { maxBytes: cap.small, signal }),
      schemas.stats,
    );
  }

  setLimits(limits: { pids: number }, signal?: AbortSignal) {
    return this.#tell("PATCH", "a change of its limits", "/v1/limits", limits, signal);
  }

  pause(tell?: Tell, signal?: AbortSignal) {
    return this.#tell("POST", "a call to pause", "/v1/pause", { tell }, signal);
  }

  resume(tell?: Tell, signal?: AbortSignal) {
    return this.#tell("POST", "a call to resume", "/v1/resume", { tell }, signal);
  }

  shutdown(reason: string, signal?: AbortSignal) {
    return this.#tell("POST", "a call to shut down", "/v1/shutdown", { reason }, signal);
  }

  /** A question whose answer says nothing but yes. */
  async #tell(method: "POST" | "PATCH", what: string, path: string, body: unknown, signal: AbortSignal | undefined) {
    await this.#session.askJson(send(method, what, path, body, { maxBytes: cap.small, signal }), schemas.nothing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }
}
