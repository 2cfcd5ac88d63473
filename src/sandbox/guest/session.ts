import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from "node:http2";
import type { Duplex } from "node:stream";
import type { z } from "zod";
import { quoted, type SandboxError } from "../../errors.ts";
import { answerChunks } from "./answer-stream.ts";
import { exchange, type Question } from "./exchange.ts";
import { streamParts } from "./exec-stream.ts";
import { unavailable } from "./failures.ts";
import { parseJson } from "./framing.ts";
import type { ExecStreamPart } from "./types.ts";
import { upload } from "./upload.ts";

/** Bytes the guest may send ahead on one stream: the price of each stalled reader, and what throughput needs. */
const windowBytes = 1024 * 1024;

/** The same for all streams together. Given back as bytes arrive, read or not, so it only keeps the guest from waiting on round trips. */
const sessionWindowBytes = 8 * 1024 * 1024;

/** How long answers may still come after the guest said goodbye. */
const farewellMs = 1000;

/** An HTTP/2 session over one stream. It fails once, for good; all that is and will be asked then rejects. */
export class GuestSession implements AsyncDisposable {
  readonly closed: Promise<void>;
  readonly #stream: Duplex;
  readonly #session: ClientHttp2Session;
  readonly #answerMs: number;
  #reason: string | undefined;
  #resolveClosed: () => void = () => {};

  constructor(stream: Duplex, answerMs: number) {
    this.#answerMs = answerMs;
    this.#stream = stream;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#session = connect("http://guest", {
      createConnection: () => stream,
      settings: { initialWindowSize: windowBytes, enablePush: false, maxHeaderListSize: 16 * 1024 },
      maxHeaderListPairs: 64,
      maxSessionMemory: 1024,
    });
    const session = this.#session;
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(sessionWindowBytes);
    });
    session.on("error", (error) => this.#fail(`the connection failed: ${quoted(error.message)}`));
    session.on("goaway", (code: number) => {
      const end = (): void => this.#fail(`the guest ended the session with code ${code}`);
      if (code !== constants.NGHTTP2_NO_ERROR) end();
      else setTimeout(end, farewellMs).unref();
    });
    session.on("close", () => this.#fail("the connection has closed"));
    stream.on("error", (error) => this.#fail(`the connection failed: ${quoted(error.message)}`));
    stream.on("end", () => this.#fail("the guest ended the connection"));
    stream.on("close", () => this.#fail("the connection has closed"));
    if (stream.destroyed || stream.readableEnded) this.#fail("the connection was closed before it was used");
  }

  get isClosed(): boolean {
    return this.#reason !== undefined || this.#session.closed || this.#session.destroyed;
  }

  /** Body of a 2xx answer. */
  ask(question: Question): Promise<Buffer> {
    return this.#reason === undefined
      ? exchange(this.#session, question, this.#answerMs, this.#gone)
      : Promise.reject(this.#gone(question.what));
  }

  /** An answer that is one JSON value. */
  async askJson<S extends z.ZodType>(question: Question, schema: S): Promise<z.infer<S>> {
    return parseJson(question.what, schema, await this.ask(question));
  }

  async *stream(question: Question): AsyncGenerator<ExecStreamPart> {
    if (this.#reason !== undefined) throw this.#gone(question.what);
    yield* streamParts(this.#session, question, this.#answerMs, this.#gone);
  }

  /** The body of an answer of any length. A guest that sends nothing for as long as an answer may take is given up. */
  async *download(question: Question, onTrailers: (trailers: IncomingHttpHeaders) => void): AsyncGenerator<Buffer> {
    if (this.#reason !== undefined) throw this.#gone(question.what);
    yield* answerChunks(this.#session, question, this.#answerMs, this.#gone, { stallMs: this.#answerMs, onTrailers });
  }

  /** Sends a body of any length; the answer is one JSON value. */
  async upload<S extends z.ZodType>(question: Question, source: AsyncIterable<Buffer>, schema: S): Promise<z.infer<S>> {
    if (this.#reason !== undefined) throw this.#gone(question.what);
    const answer = await upload(this.#session, question, source, this.#answerMs, this.#gone);
    return parseJson(question.what, schema, answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail("this server closed the connection");
    await this.closed;
  }

  readonly #gone = (what: string): SandboxError =>
    unavailable(`The sandbox's guest did not answer ${what}: ${this.#reason ?? "it ended the stream"}.`);

  #fail(reason: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#session.destroy();
    this.#stream.destroy();
    this.#resolveClosed();
  }
}
