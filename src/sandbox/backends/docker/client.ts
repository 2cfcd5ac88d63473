import { readFile } from "node:fs/promises";
import { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import type { z } from "zod";
import { type ErrorCode, givenUp } from "../../../errors.ts";
import {
  type DialOptions,
  type EngineVersion,
  engineVersion,
  type Modem,
  negotiate,
  openModem,
  probeSocket,
} from "./connection.ts";
import { discoverEngine, type EngineAddress, type EngineSettings } from "./discover.ts";
import { busyEngine, type CallContext, EngineAnswer, EngineTimeout, toSandboxError } from "./errors.ts";
import { orAborted, withLimit } from "./limits.ts";

export interface EngineRequest {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  query?: Record<string, string>;
  body?: unknown;
  headers?: Record<string, string>;
  /** A tar archive to send as the body. */
  archive?: Buffer;
  /** What is being done, as it reads after "could not". */
  action: string;
  /** What a 404 means here. @default SANDBOX_NOT_FOUND */
  notFound?: ErrorCode;
  /** Time until the answer is complete; for a stream, until it begins. @default 30000 */
  limitMs?: number;
  signal?: AbortSignal | undefined;
}

export interface EngineConnection {
  modem: Modem;
  address: EngineAddress;
  apiVersion: string;
  server: EngineVersion;
}

export interface EngineClientOptions extends EngineSettings {
  home: string;
  uid: number;
}

/** No answer of the engine is longer: lists of thousands of containers are far below it. */
const maxAnswerBytes = 64 * 1024 * 1024;
const success: Record<number, true> = { 200: true, 201: true, 202: true, 204: true, 304: true };

/**
 * All calls to one engine go through here: found and agreed with on the first call, each with a time limit beside the
 * caller's signal, each failure a SandboxError. Once found, the engine stays the same for the life of the process.
 */
export class EngineClient {
  readonly #options: EngineClientOptions;
  #connection: Promise<EngineConnection> | undefined;
  #address: EngineAddress | undefined;
  #endpoint = "the configured address";

  constructor(options: EngineClientOptions) {
    this.#options = options;
  }

  /** The engine and the API version agreed on. A failure is forgotten, so that the next call tries again. */
  async connection(signal?: AbortSignal): Promise<EngineConnection> {
    this.#connection ??= this.#connect().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return orAborted(this.#connection, signal);
  }

  async #connect(): Promise<EngineConnection> {
    this.#address ??= await discoverEngine(this.#options, {
      home: this.#options.home,
      uid: this.#options.uid,
      read: (path) => readFile(path).catch(() => undefined),
      probe: probeSocket,
    });
    const address = this.#address;
    this.#endpoint = address.endpoint;
    const first = await openModem(address);
    const request: EngineRequest = { path: "/version", action: "tell its version", limitMs: 10_000 };
    const server = await this.#mapped(request, async () => {
      const bytes = await withLimit(request, async (signal) =>
        collect(await this.#send(first, { ...request, signal }), maxAnswerBytes),
      );
      return engineVersion.parse(JSON.parse(bytes.toString("utf8")));
    });
    const apiVersion = negotiate(server, address.endpoint);
    return { modem: await openModem(address, apiVersion), address, apiVersion, server };
  }

  /** An answer that is JSON, checked. */
  async json<T>(schema: z.ZodType<T>, request: EngineRequest): Promise<T> {
    const bytes = await this.bytes(request);
    return this.#mapped(request, () => schema.parse(JSON.parse(bytes.toString("utf8"))));
  }

  /** An answer in memory, of at most `max` bytes; more is an error, or cut off when `cut` is set. */
  async bytes(request: EngineRequest, { max = maxAnswerBytes, cut = false } = {}): Promise<Buffer> {
    const { modem } = await this.connection(request.signal);
    return this.#mapped(request, () =>
      withLimit(request, async (signal) => collect(await this.#send(modem, { ...request, signal }), max, cut)),
    );
  }

  /** A call whose answer does not matter. */
  async run(request: EngineRequest): Promise<void> {
    await this.bytes(request);
  }

  /** An answer that goes on. The signal ends it; `limitMs` is for its beginning. */
  async stream(request: EngineRequest): Promise<IncomingMessage> {
    const { modem } = await this.connection(request.signal);
    return this.#mapped(request, async () => {
      const stop = new AbortController();
      const forward = () => stop.abort(request.signal?.reason);
      const answer = await withLimit(request, async (limit) => {
        const onLimit = () => stop.abort(limit.reason);
        limit.addEventListener("abort", onLimit, { once: true });
        try {
          return await this.#send(modem, { ...request, signal: stop.signal });
        } finally {
          limit.removeEventListener("abort", onLimit);
        }
      });
      request.signal?.addEventListener("abort", forward, { once: true });
      answer.once("close", () => request.signal?.removeEventListener("abort", forward));
      if (request.signal?.aborted) forward();
      return answer;
    });
  }

  /** A connection taken over for bytes in both directions. The signal counts until it is open. */
  async hijack(request: EngineRequest): Promise<Duplex> {
    const { modem } = await this.connection(request.signal);
    return this.#mapped(request, () =>
      withLimit(request, async (signal) => {
        const stop = new AbortController();
        const onAbort = () => stop.abort(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
        try {
          const duplex = await this.#dial(
            modem,
            { ...request, signal: stop.signal },
            { hijack: true, openStdin: true },
          );
          if (duplex instanceof Duplex) return duplex;
          throw new Error("the engine did not hand over the connection");
        } finally {
          signal.removeEventListener("abort", onAbort);
        }
      }),
    );
  }

  async #send(modem: Modem, request: EngineRequest): Promise<IncomingMessage> {
    const answer = await this.#mapped(request, () => this.#dial(modem, request, {}));
    if (answer instanceof IncomingMessage) return answer;
    throw new Error("the engine's answer is not a stream");
  }

  #dial(modem: Modem, request: EngineRequest, more: Pick<DialOptions, "hijack" | "openStdin">): Promise<unknown> {
    const query = request.query === undefined ? {} : { _query: request.query };
    const options: DialOptions = {
      path: request.query === undefined ? request.path : `${request.path}?`,
      method: request.method ?? "GET",
      statusCodes: success,
      isStream: true,
      options: { ...query, _body: request.body ?? {} },
      ...(request.headers === undefined ? {} : { headers: { ...request.headers } }),
      ...(request.archive === undefined ? {} : { file: request.archive }),
      ...(request.signal === undefined ? {} : { abortSignal: request.signal }),
      ...more,
    };
    return new Promise((resolve, reject) => {
      modem.dial(options, (error, result) => {
        if (error === null) resolve(result);
        else reject(answerOf(error));
      });
    });
  }

  async #mapped<T>(request: EngineRequest, work: () => T | Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (request.signal?.aborted && !(error instanceof EngineTimeout)) {
        throw givenUp(request.signal.reason, `The engine at ${this.#endpoint} did not ${request.action}`, busyEngine);
      }
      const context: CallContext = { action: request.action, endpoint: this.#endpoint };
      if (request.notFound !== undefined) context.notFound = request.notFound;
      throw toSandboxError(error, context);
    }
  }
}

/** dockerode's error for a status, as ours; anything else as it is. */
function answerOf(error: Error): Error {
  if (!("statusCode" in error) || typeof error.statusCode !== "number") return error;
  // The text is `(HTTP code 404) unexpected - words `.
  const words = error.message.replace(/^\(HTTP code \d+\) \S+ - /, "").trim();
  return new EngineAnswer(error.statusCode, words, { cause: error });
}

async function collect(stream: IncomingMessage, max: number, cut = false): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes: Buffer = chunk;
    size += bytes.length;
    chunks.push(bytes);
    if (size <= max) continue;
    if (cut) break;
    throw new Error(`the engine's answer is longer than ${max} bytes`);
  }
  return Buffer.concat(chunks).subarray(0, max);
}
