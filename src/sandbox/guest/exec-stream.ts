import type { ClientHttp2Session } from "node:http2";
import type { SandboxError } from "../../errors.ts";
import { answerChunks } from "./answer-stream.ts";
import type { Question } from "./exchange.ts";
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
  const parser = new FrameParser(question.what);
  for await (const chunk of answerChunks(session, question, answerMs, gone)) yield* parser.push(chunk);
  if (!parser.ended) throw gone(question.what);
}
