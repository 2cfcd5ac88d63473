import { type ClientHttp2Session, type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";
import { quoted, SandboxError } from "../../errors.ts";
import { refusal, unanswered, unavailable } from "./failures.ts";

/** The protocol this server speaks; `guest-api` of every answer must say the same. */
export const guestApi = "1";

/** Refusals are short, whatever was asked. */
export const maxRefusalBytes = 64 * 1024;

/** Uploads slower than this are taken for a guest that does not read. */
const slowestBytesPerMs = 1024;

/** Written at once at most; the next piece waits for the stream to drain. */
const pieceBytes = 256 * 1024;

export interface Question {
  /** For messages, in our words: `reading "/a"`. */
  what: string;
  method: "GET" | "POST" | "PUT" | "PATCH";
  path: string;
  /** Sent in this order. Empty: whoever opened the stream sends and ends it. */
  body?: readonly Buffer[];
  contentType?: string;
  /** Longest answer taken. */
  maxBytes: number;
  /** How long the guest was asked to wait by itself. @default 0 */
  waitMs?: number;
  signal?: AbortSignal | undefined;
}

/** Sends the question. Errors of the stream itself are swallowed here: `close` follows each, and that is what users await. */
export function openStream(session: ClientHttp2Session, question: Question): ClientHttp2Stream {
  const headers: Record<string, string> = { ":method": question.method, ":path": question.path };
  if (question.contentType !== undefined) headers["content-type"] = question.contentType;
  const stream = session.request(headers, { endStream: question.body === undefined });
  stream.on("error", () => {});
  if (question.body !== undefined) void send(stream, question.body);
  return stream;
}

/** Why the head of an answer makes its body worthless, or undefined. */
export function badHead(what: string, headers: IncomingHttpHeaders, maxBytes: number): SandboxError | undefined {
  const api = headers["guest-api"];
  if (api !== guestApi) {
    const theirs = api === undefined ? "none" : quoted(String(api), 32);
    return unavailable(
      `The sandbox's guest speaks version ${theirs} of the guest API; this server speaks version ${guestApi}.`,
      {
        retryable: false,
        next: "Destroy the sandbox and create a new one.",
      },
    );
  }
  return Number(headers["content-length"] ?? 0) > maxBytes ? tooLong(what, maxBytes) : undefined;
}

/**
 * One question, one answer: capped in size while it arrives and bounded in time. Resolves with the body of a 2xx answer.
 * Whatever ends it early resets the stream; the guest takes that as the end of the wait and nothing else.
 */
export function exchange(
  session: ClientHttp2Session,
  question: Question,
  answerMs: number,
  gone: (what: string) => SandboxError,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const { what, signal } = question;
    if (signal?.aborted) return reject(unanswered(what, signal));
    let stream: ClientHttp2Stream;
    try {
      stream = openStream(session, question);
    } catch {
      return reject(gone(what));
    }
    const chunks: Buffer[] = [];
    let size = 0;
    let status = 0;
    let maxBytes = question.maxBytes;
    let settled = false;

    const settle = (error: SandboxError | undefined, body?: Buffer): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      chunks.length = 0;
      if (error !== undefined || !stream.writableFinished) stream.close(constants.NGHTTP2_CANCEL);
      if (body === undefined) {
        stream.resume();
        reject(error ?? gone(what));
      } else resolve(body);
    };
    const onAbort = (): void => settle(unanswered(what, signal));
    const limitMs = answerMs + (question.waitMs ?? 0) + byteCount(question.body ?? []) / slowestBytesPerMs;
    const timer = setTimeout(() => settle(late(what, limitMs)), limitMs);
    signal?.addEventListener("abort", onAbort, { once: true });

    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
      if (status >= 300) maxBytes = maxRefusalBytes;
      const bad = badHead(what, headers, maxBytes);
      if (bad !== undefined) settle(bad);
    });
    stream.on("data", (chunk: Buffer) => {
      if (settled) return;
      size += chunk.length;
      if (size > maxBytes) settle(tooLong(what, maxBytes));
      else chunks.push(chunk);
    });
    stream.on("end", () => {
      if (settled) return;
      if (status === 0 || stream.rstCode !== constants.NGHTTP2_NO_ERROR) return settle(gone(what));
      const [first] = chunks;
      const body = first !== undefined && chunks.length === 1 ? first : Buffer.concat(chunks, size);
      if (status >= 200 && status < 300) settle(undefined, body);
      else settle(refusal(what, status, body));
    });
    stream.on("close", () => {
      if (!settled) settle(gone(what));
    });
  });
}

export function late(what: string, limitMs: number): SandboxError {
  return new SandboxError("TIMEOUT", `The sandbox's guest did not answer ${what} within ${Math.round(limitMs)} ms.`);
}

function tooLong(what: string, maxBytes: number): SandboxError {
  return unavailable(`The sandbox's guest answered ${what} with more than the ${maxBytes} bytes allowed.`);
}

const byteCount = (parts: readonly Buffer[]): number => parts.reduce((sum, part) => sum + part.length, 0);

/** Writes as fast as the guest reads and stops when the stream closes. */
async function send(stream: ClientHttp2Stream, parts: readonly Buffer[]): Promise<void> {
  for (const [index, part] of parts.entries()) {
    let at = 0;
    for (; part.length - at > pieceBytes; at += pieceBytes) {
      if (!stream.write(part.subarray(at, at + pieceBytes))) await drained(stream);
      if (stream.destroyed || stream.closed) return;
    }
    const rest = at === 0 ? part : part.subarray(at);
    // With the end in the same call, the last frame carries it: one write less on the way to the guest.
    if (index === parts.length - 1) stream.end(rest);
    else if (!stream.write(rest)) await drained(stream);
    if (stream.destroyed || stream.closed) return;
  }
}

/** Resolves when the stream takes more, or has closed. */
export function drained(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done);
    stream.on("close", done);
  });
}
