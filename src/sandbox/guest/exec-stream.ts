import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from "node:http2";
import { SandboxError } from "../../errors.ts";
import { badHead, late, maxRefusalBytes, openStream, type Question } from "./exchange.ts";
import { cancelled, refusal } from "./failures.ts";
import { nonsense, parseJson } from "./framing.ts";
import { exec } from "./schemas.ts";
import type { ExecStreamPart } from "./types.ts";

const headBytes = 13;
const maxFrameBytes = 16 * 1024 * 1024;
const maxEndBytes = 64 * 1024;
const names = { 1: "stdout", 2: "stderr" } as const;

/**
 * Cuts the bytes of a stream into parts. Data is handed on as it comes, without waiting for the rest of its frame, so nothing
 * but a frame's 13 bytes and the end's JSON is ever held.
 */
export class FrameParser {
  ended = false;
  readonly #what: string;
  readonly #head = Buffer.alloc(headBytes);
  #headLength = 0;
  #type = 0;
  #offset = 0;
  #left = 0;
  #end: Buffer[] = [];
  readonly #next = { stdout: 0, stderr: 0 };

  constructor(what: string) {
    this.#what = what;
  }

  *push(chunk: Buffer): Generator<ExecStreamPart> {
    let at = 0;
    while (at < chunk.length) {
      if (this.ended) throw nonsense(this.#what, "something follows the end");
      if (this.#headLength < headBytes) {
        const take = Math.min(headBytes - this.#headLength, chunk.length - at);
        chunk.copy(this.#head, this.#headLength, at, at + take);
        this.#headLength += take;
        at += take;
        if (this.#headLength < headBytes) return;
        this.#open();
      }
      const bytes = chunk.subarray(at, at + this.#left);
      at += bytes.length;
      this.#left -= bytes.length;
      yield* this.#take(bytes);
      if (this.#left === 0) this.#headLength = 0;
    }
  }

  #open(): void {
    this.#type = this.#head.readUInt8(0);
    const offset = this.#head.readBigUInt64BE(1);
    this.#left = this.#head.readUInt32BE(9);
    if (this.#type === 3) {
      if (this.#left === 0 || this.#left > maxEndBytes) throw nonsense(this.#what, "its end has no sensible length");
      return;
    }
    if (this.#type !== 1 && this.#type !== 2) throw nonsense(this.#what, `a frame of type ${this.#type}`);
    if (this.#left > maxFrameBytes) throw nonsense(this.#what, "a frame is too long");
    if (offset > BigInt(Number.MAX_SAFE_INTEGER) || Number(offset) < this.#next[names[this.#type]]) {
      throw nonsense(this.#what, "an offset goes back");
    }
    this.#offset = Number(offset);
    this.#next[names[this.#type]] = this.#offset + this.#left;
  }

  *#take(bytes: Buffer): Generator<ExecStreamPart> {
    if (this.#type === 1 || this.#type === 2) {
      if (bytes.length > 0) yield { stream: names[this.#type], offset: this.#offset, bytes };
      this.#offset += bytes.length;
      return;
    }
    this.#end.push(bytes);
    if (this.#left > 0) return;
    this.ended = true;
    yield { end: parseJson(this.#what, exec, Buffer.concat(this.#end)) };
  }
}

/** Streams the answer to the question. The answer's head is awaited as long as any answer; what follows as long as it takes. */
export async function* streamParts(
  session: ClientHttp2Session,
  question: Question,
  answerMs: number,
  gone: (what: string) => SandboxError,
): AsyncGenerator<ExecStreamPart> {
  const { what, signal } = question;
  if (signal?.aborted) throw cancelled();
  let stream: ClientHttp2Stream;
  try {
    stream = openStream(session, question);
  } catch {
    throw gone(what);
  }
  let failure: SandboxError | undefined;
  const fail = (error: SandboxError): void => {
    failure ??= error;
    stream.close(constants.NGHTTP2_CANCEL);
  };
  const onAbort = (): void => fail(cancelled());
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => fail(late(what, answerMs)), answerMs);
  // Without an encoding set, a stream's chunks are buffers.
  const chunks = stream as AsyncIterable<Buffer>;
  try {
    const headers = await head(stream);
    if (headers === undefined) throw gone(what);
    const bad = badHead(what, headers, Number.MAX_SAFE_INTEGER);
    if (bad !== undefined) throw bad;
    const status = headers[":status"] ?? 0;
    if (status < 200 || status >= 300) throw refusal(what, status, await readRefusal(chunks));
    clearTimeout(timer);
    const parser = new FrameParser(what);
    for await (const chunk of chunks) {
      for (const part of parser.push(chunk)) {
        if (failure !== undefined) throw failure;
        yield part;
      }
    }
    if (!parser.ended) throw gone(what);
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
