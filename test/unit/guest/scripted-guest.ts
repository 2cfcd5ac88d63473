import {
  createServer,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
  type Settings,
} from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import { expect, onTestFinished } from "vitest";
import { connectGuest } from "../../../src/sandbox/guest/client.ts";
import type { Guest, GuestExec } from "../../../src/sandbox/guest/types.ts";

export type Script = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, session: Http2Session) => void;

/** A client whose guest does to each request what the script says. */
export function scriptedGuest(script: Script, options: { answerMs?: number; settings?: Settings } = {}): Guest {
  const [ours, theirs] = duplexPair();
  const server = createServer({ settings: options.settings ?? {}, maxSessionMemory: 1024 });
  server.on("session", (session) => session.on("error", () => {}));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    if (stream.session !== undefined) script(stream, headers, stream.session);
  });
  server.emit("connection", theirs);
  theirs.on("error", () => {});
  return guestOver(ours, options.answerMs);
}

/** A client on one end of a pipe; what is at the other end is the test's business. */
export function rawGuest(options: { answerMs?: number } = {}): { guest: Guest; theirs: Duplex } {
  const [ours, theirs] = duplexPair();
  theirs.on("error", () => {});
  theirs.resume();
  return { guest: guestOver(ours, options.answerMs), theirs };
}

function guestOver(stream: Duplex, answerMs = 10_000): Guest {
  const guest = connectGuest(stream, { answerMs });
  onTestFinished(() => guest[Symbol.asyncDispose]());
  return guest;
}

export const ok = { ":status": 200, "guest-api": "1" } as const;

export const execJson: GuestExec = {
  exec_id: "ex_1",
  status: "exited",
  exit_code: 0,
  signal: null,
  ended_by: "self",
  oom_kills: 0,
  left_running: 0,
  cwd: "/workspace",
  tty: false,
  pid: 7,
  started_at: "2026-11-22T01:02:03.004Z",
  ended_at: "2026-11-22T01:02:03.005Z",
  duration_ms: 1,
  stdout_bytes: 0,
  stderr_bytes: 0,
  omitted_bytes: 0,
  stdout_kept: [],
  stderr_kept: [],
};

export const leaseJson = { claimed: true, ttl_remaining_ms: 1000, idle_remaining_ms: null };

/** Answers every request with this JSON. */
export const answering =
  (value: unknown, headers: Record<string, string | number> = ok): Script =>
  (stream) => {
    stream.respond(headers);
    stream.end(JSON.stringify(value));
  };

/** Answers every request with a header line and bytes. */
export const framing =
  (header: unknown, bytes: Buffer | string = ""): Script =>
  (stream) => {
    stream.respond(ok);
    stream.write(`${JSON.stringify(header)}\n`);
    stream.end(bytes);
  };

/** What a call to a guest that makes no sense rejects with. */
export const unavailable = (why: string) => ({
  name: "SandboxError",
  code: "GUEST_UNAVAILABLE",
  message: expect.stringContaining(why),
});
