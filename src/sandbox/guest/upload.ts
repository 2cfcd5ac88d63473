import { type ClientHttp2Session, type ClientHttp2Stream, constants } from "node:http2";
import type { SandboxError } from "../../errors.ts";
import { badHead, drained, late, maxRefusalBytes, openStream, type Question } from "./exchange.ts";
import { refusal, unanswered, unavailable } from "./failures.ts";

/**
 * Sends a body of any length as fast as the guest reads it and gives the body of its 2xx answer. A guest that neither reads nor
 * answers for `stallMs` is given up; how slowly the source comes is the source's business. Its failure resets the stream.
 */
export async function upload(
  session: ClientHttp2Session,
  question: Omit<Question, "body">,
  source: AsyncIterable<Buffer>,
  stallMs: number,
  gone: (what: string) => SandboxError,
): Promise<Buffer> {
  const { what, signal, maxBytes } = question;
  if (signal?.aborted) throw unanswered(what, signal);
  let stream: ClientHttp2Stream;
  try {
    stream = openStream(session, { ...question, body: [] });
  } catch {
    throw gone(what);
  }
  let failure: SandboxError | undefined;
  const fail = (error: SandboxError): void => {
    failure ??= error;
    stream.close(constants.NGHTTP2_CANCEL);
  };
  const onAbort = (): void => fail(unanswered(what, signal));
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = stallTimer(() => fail(late(what, stallMs)), stallMs);
  const answered = answerOf(stream, what, maxBytes, fail);
  try {
    for await (const piece of source) {
      if (failure !== undefined || answered.over) break;
      if (piece.length > 0 && !stream.write(piece)) {
        timer.start();
        await Promise.race([drained(stream), answered.promise]);
        timer.stop();
      }
    }
    if (!stream.closed && !stream.destroyed) stream.end();
    timer.start();
    const { status, body } = await answered.promise;
    if (failure !== undefined) throw failure;
    if (status === 0) throw gone(what);
    if (status < 200 || status >= 300) throw refusal(what, status, body);
    return body;
  } finally {
    timer.stop();
    signal?.removeEventListener("abort", onAbort);
    stream.close(constants.NGHTTP2_CANCEL);
    stream.resume();
  }
}

interface Answered {
  over: boolean;
  /** Status 0: the stream closed without a whole answer. Never rejects. */
  promise: Promise<{ status: number; body: Buffer }>;
}

function answerOf(
  stream: ClientHttp2Stream,
  what: string,
  maxBytes: number,
  fail: (error: SandboxError) => void,
): Answered {
  const answered: Answered = { over: false, promise: Promise.resolve({ status: 0, body: Buffer.alloc(0) }) };
  answered.promise = new Promise((resolve) => {
    let status = 0;
    let size = 0;
    let whole = false;
    const chunks: Buffer[] = [];
    const done = (): void => {
      answered.over = true;
      resolve({ status: whole ? status : 0, body: Buffer.concat(chunks) });
    };
    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
      const bad = badHead(what, headers, Math.max(maxBytes, maxRefusalBytes));
      if (bad !== undefined) fail(bad);
    });
    stream.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > Math.max(maxBytes, maxRefusalBytes))
        fail(unavailable(`The sandbox's guest answered ${what} with too much.`));
      else chunks.push(chunk);
    });
    stream.on("end", () => {
      whole = status !== 0;
      done();
    });
    stream.on("close", done);
  });
  return answered;
}

function stallTimer(onStall: () => void, ms: number): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  return {
    start() {
      clearTimeout(timer);
      timer = setTimeout(onStall, ms);
    },
    stop: () => clearTimeout(timer),
  };
}
