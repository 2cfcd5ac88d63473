import type { z } from "zod";
import type * as schemas from "./schemas.ts";

/** What the guest says, parsed; guest/API.md is the source. All of it is untrusted data of bounded size. */
export type GuestHealth = z.infer<typeof schemas.health>;
export type GuestLease = z.infer<typeof schemas.lease>;
export type GuestExec = z.infer<typeof schemas.exec>;
export type GuestFact = z.infer<typeof schemas.fact>;
export type GuestFacts = z.infer<typeof schemas.facts>;
export type GuestStat = z.infer<typeof schemas.stat>;
export type GuestFound = z.infer<typeof schemas.found>;
export type GuestExtracted = z.infer<typeof schemas.extracted>;
export type GuestStats = z.infer<typeof schemas.stats>;

export interface ExecStart {
  argv?: string[];
  command?: string;
  cwd?: string;
  env?: Record<string, string>;
  stdin?: string;
  keep_stdin?: boolean;
  tty?: { rows: number; cols: number };
  merge_stderr?: boolean;
  timeout_ms?: number;
  /** Echoed in facts. */
  meta?: unknown;
}

export interface ExecView {
  wait_ms?: number;
  until?: "exit" | "output";
  /** RE2; a line that matches ends the wait. */
  until_match?: string;
  /** Only the last so many lines of each stream. */
  tail_lines?: number;
  /** RE2; only the lines that match, each with its neighbours. */
  match?: string;
  stdout_offset?: number;
  stderr_offset?: number;
  max_bytes?: number;
  facts_after?: number;
}

export interface ExecSnapshot {
  exec: GuestExec;
  segments: { stream: "stdout" | "stderr"; from: number; bytes: Buffer }[];
  /** The line that ended the wait for `until_match`. */
  matched?: { stream: "stdout" | "stderr"; offset: number; line: string };
  /** What `match` found in the output that is kept: so many lines; not all of it was looked at; not all of them are in the segments. */
  found?: { total: number; partial: boolean; more: boolean };
  facts?: GuestFacts;
}

/** A piece of a stream of output, or the last word about the exec. Offsets that jump tell what the guest no longer has. */
export type ExecStreamPart = { stream: "stdout" | "stderr"; offset: number; bytes: Buffer } | { end: GuestExec };

export interface FileReadRequest {
  path: string;
  offset?: number;
  line_start?: number;
  line_end?: number;
  max_bytes: number;
}

export interface FileReadAnswer {
  file: GuestStat;
  bytes: Buffer;
  offset: number;
  line_start?: number;
  line_end?: number;
  total_lines?: number;
  next_line?: number;
  next_offset?: number;
  omitted: boolean;
  cut_lines: number;
}

export interface FileToWrite {
  path: string;
  bytes: Buffer;
  mode?: string;
  if_match?: string;
}

/** Goes along with a change, for the fact of it. */
export interface Tell {
  id: string;
  /** Echoed in the fact. */
  meta: unknown;
}

/** Goes along with a change of files. */
export interface FileTell extends Tell {
  /** Of files that were there before. @default "write" */
  op?: "edit";
  /** The answer has the facts behind this one. */
  facts_after?: number;
}

export interface FileSearch {
  /** RE2. */
  pattern: string;
  path?: string;
  glob?: string;
  ignore_case?: boolean;
  context?: number;
  limit: number;
}

export interface FileManage {
  op: "mkdir" | "move" | "copy" | "delete";
  path: string;
  dest?: string;
  recursive?: boolean;
}

/** Counted from now. `ttl_ms` or `idle_ms` claims the sandbox for good. */
export interface LeaseChange {
  ttl_ms?: number;
  idle_ms?: number;
  /** How long a sandbox nobody claimed for good lives on. */
  boot_ms?: number;
  /** Holds it for one claimant: the first word wins, every other meets CONFLICT. */
  claim?: string;
}

/**
 * A session with the guest of one sandbox over one stream. Every call takes a signal; aborting ends the wait, never the work.
 * Rejects with a SandboxError: the guest's own codes where it answered, GUEST_UNAVAILABLE when the stream broke or the answer
 * makes no sense, TIMEOUT when it did not answer in time.
 */
export interface Guest extends AsyncDisposable {
  /** Resolves when the stream has ended for whatever reason: the fastest sign of death. */
  readonly closed: Promise<void>;
  readonly isClosed: boolean;
  health(signal?: AbortSignal): Promise<GuestHealth>;
  setLease(lease: LeaseChange, signal?: AbortSignal): Promise<GuestLease>;
  /** `image`: what the image declares for its programs, below all else and no secret. */
  patchEnv(
    change: { set: Record<string, string>; unset: string[]; image?: Record<string, string> },
    signal?: AbortSignal,
  ): Promise<string[]>;
  programs(signal?: AbortSignal): Promise<Record<string, string>>;
  /** Starts (idempotent on the id) and waits as the view says. */
  startExec(execId: string, start: ExecStart, view: ExecView, signal?: AbortSignal): Promise<ExecSnapshot>;
  viewExec(execId: string, view: ExecView, signal?: AbortSignal): Promise<ExecSnapshot>;
  /**
   * All output from the offsets on as it comes, then the end. Reads only as fast as it is consumed; has no deadline of its own once
   * the guest answered. Leaving the loop ends the stream, never the exec.
   */
  streamExec(
    execId: string,
    offsets: { stdout_offset?: number; stderr_offset?: number },
    signal?: AbortSignal,
  ): AsyncIterable<ExecStreamPart>;
  killExec(
    execId: string,
    kill: { signal?: string; grace_ms?: number; by?: "kill" | "cancel" },
    signal?: AbortSignal,
  ): Promise<GuestExec>;
  /**
   * Writes what the process takes within `waitMs` and tells how much that was; `eof` only counts once all of it is taken. A process
   * that takes its time needs `waitMs`: without it the answer must come as fast as any other.
   */
  writeStdin(execId: string, bytes: Buffer, eof: boolean, signal?: AbortSignal, waitMs?: number): Promise<number>;
  /** Writes all of it, for as long as the process takes to read it. */
  feedStdin(execId: string, bytes: Buffer, eof: boolean, signal?: AbortSignal): Promise<number>;
  resize(execId: string, size: { rows: number; cols: number }, signal?: AbortSignal): Promise<void>;
  listExecs(signal?: AbortSignal): Promise<GuestExec[]>;
  facts(after: number, waitMs: number, signal?: AbortSignal): Promise<GuestFacts>;
  readFile(request: FileReadRequest, signal?: AbortSignal): Promise<FileReadAnswer>;
  writeFiles(
    files: FileToWrite[],
    tell?: FileTell,
    signal?: AbortSignal,
  ): Promise<{ files: { path: string; size_bytes: number; etag: string; created: boolean }[]; facts?: GuestFacts }>;
  listFiles(
    request: { path: string; depth: number; glob?: string; limit: number; cursor?: string },
    signal?: AbortSignal,
  ): Promise<{ entries: GuestStat[]; next_cursor?: string }>;
  stat(path: string, signal?: AbortSignal): Promise<GuestStat>;
  searchFiles(search: FileSearch, signal?: AbortSignal): Promise<GuestFound>;
  manageFiles(
    manage: FileManage,
    tell?: FileTell,
    signal?: AbortSignal,
  ): Promise<{ path: string; entries: number; facts?: GuestFacts }>;
  /** Extracts a tar stream below a folder. Reads the archive only as fast as the guest does. */
  putTar(path: string, archive: AsyncIterable<Buffer>, signal?: AbortSignal): Promise<GuestExtracted>;
  /** A file or folder as a tar stream, as it comes; throws unless it came to its end. `leftOut` hears of what is not in it. */
  getTar(
    request: { path: string; include: readonly string[]; exclude: readonly string[] },
    leftOut: (path: string, why: string) => void,
    signal?: AbortSignal,
  ): AsyncIterable<Buffer>;
  stats(signal?: AbortSignal): Promise<GuestStats>;
  setLimits(limits: { pids: number }, signal?: AbortSignal): Promise<void>;
  pause(tell?: Tell, signal?: AbortSignal): Promise<void>;
  resume(tell?: Tell, signal?: AbortSignal): Promise<void>;
  shutdown(reason: string, signal?: AbortSignal): Promise<void>;
}
