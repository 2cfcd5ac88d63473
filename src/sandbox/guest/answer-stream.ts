import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from "node:http2";
import { SandboxError } from "../../errors.ts";
import { badHead, late, maxRefusalBytes, openStream, type Question } from "./exchange.ts";
import { refusal, unanswered } from "./failures.ts";

/**
 * The body of an answer as it comes, read only as fast as it is consumed. The head is awaited as long as any answer; every further
 * piece `stallMs`, or without end. Throws unless the answer came to its end.
 */
export async function* answerChunks(
  session: ClientHttp2Session,
  question: Question,
  answerMs: number,
  gone: (what: string) => SandboxError,
  { stallMs, onTrailers }: { stallMs?: number; onTrailers?: (trailers: IncomingHttpHeaders) => void } = {},
): AsyncGenerator<Buffer> {
  const { what, signal } = question;
  if (signal?.aborted) throw unanswered(what, signal);
  let stream: ClientHttp2Stream;
  try {
    stream = openStream(session, question);
  } catch {
    throw gone(what);
  }
  if (onTrailers) stream.on("trailers", onTrailers);
  let failure: SandboxError | undefined;
  const fail = (error: SandboxError): void => {
    failure ??= error;
    stream.close(constants.NGHTTP2_CANCEL);
  };
  const onAbort = (): void => fail(unanswered(what, signal));
  signal?.addEventListener("abort", onAbort, { once: true });
  let timer: NodeJS.Timeout | undefined = setTimeout(() => fail(late(what, answerMs)), answerMs);
  // Without an encoding set, a stream's chunks are buffers.
  const chunks = stream as AsyncIterable<Buffer>;
  try {
    const headers = await head(stream);
    if (headers === undefined) throw gone(what);
    const bad = badHead(what, headers, Number.MAX_SAFE_INTEGER);
    if (bad !== undefined) throw bad;
    const status = headers[":status"] ?? 0;
    if (status < 200 || status >= 300) throw refusal(what, status, await readRefusal(chunks));
    const wait = (): void => {
      clearTimeout(timer);
      timer = stallMs === undefined ? undefined : setTimeout(() => fail(late(what, stallMs)), stallMs);
    };
    wait();
    for await (const chunk of chunks) {
      clearTimeout(timer);
      if (failure !== undefined) throw failure;
      yield chunk;
      wait();
    }
    if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) throw gone(what);
  } catch (error) {
    if (failure !== undefined) throw failure;
    throw error instanceof SandboxError ? error : gone(what);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    stream.close(constants.NGHTTP2_CANCEL);
    stream.resume();
  }
}

/** The head of the answer; undefined when the stream closed without one. */
function head(stream: ClientHttp2Stream): Promise<(IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined> {
  return new Promise((resolve) => {
    stream.once("response", resolve);
    stream.once("close", () => resolve(undefined));
  });
}

async function readRefusal(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const read: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    read.push(chunk);
    size += chunk.length;
    if (size > maxRefusalBytes) break;
  }
  return Buffer.concat(read).subarray(0, maxRefusalBytes);
}
