import type { Readable, Writable } from "node:stream";
import {
  isJSONRPCRequest,
  isJSONRPCResponse,
  type JSONRPCMessage,
  parseJSONRPCMessage,
  serializeMessage,
  type Transport,
} from "@modelcontextprotocol/server";
import { isObject } from "../tools/coerce.ts";
import { type Frame, idFromEdges, LineFramer } from "./framing.ts";

/** Above the largest call there is: 8 MiB of file content, escaped by a client that escapes all but ASCII. */
const maxLineBytes = 32 * 1024 * 1024;
/** How long answers under way may still leave after the client closed its end. */
const drainMs = 500;

type Id = string | number;

/**
 * MCP over two streams. In place of the SDK's own, because that one copies a large message again for each chunk of it, ends the
 * connection over one above 10 MB, keeps silent to malformed ones, and drops answers that are ready when stdin ends.
 */
export class StdioTransport implements Transport {
  onclose?: (() => void) | undefined;
  onerror?: ((error: Error) => void) | undefined;
  onmessage?: ((message: JSONRPCMessage) => void) | undefined;
  /** Sees every message before the SDK does. */
  onincoming?: ((message: JSONRPCMessage) => void) | undefined;

  readonly #input: Readable;
  readonly #output: Writable;
  readonly #framer = new LineFramer(maxLineBytes);
  readonly #unanswered = new Set<Id>();
  #over: () => void = () => {};
  #closed = false;
  #ending: NodeJS.Timeout | undefined;

  constructor(input: Readable, output: Writable) {
    this.#input = input;
    this.#output = output;
  }

  /** Settles when the connection is over, whoever ended it. */
  readonly closed = new Promise<void>((resolve) => {
    this.#over = resolve;
  });

  async start(): Promise<void> {
    this.#output.on("error", this.#failed);
    this.#input.on("error", this.#failed);
    this.#input.on("end", this.#ended);
    this.#input.on("close", this.#ended);
    this.#input.on("data", this.#received);
    if (this.#input.readableEnded || this.#input.destroyed) setImmediate(this.#ended);
  }

  readonly #received = (chunk: Buffer): void => {
    for (const frame of this.#framer.push(chunk)) this.#frame(frame);
  };

  #frame(frame: Frame): void {
    if ("tooLong" in frame) {
      this.#refuse(idFromEdges(frame.tooLong), -32600, `Message longer than ${maxLineBytes} bytes`);
      return;
    }
    if (frame.line.trim() === "") return;
    const message = this.#parse(frame.line);
    if (message === undefined) return;
    // A listen request is answered by the end of the connection.
    if (isJSONRPCRequest(message) && message.method !== "subscriptions/listen") this.#unanswered.add(message.id);
    this.#settleCancelled(message);
    this.onincoming?.(message);
    this.onmessage?.(message);
  }

  #parse(line: string): JSONRPCMessage | undefined {
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch {
      this.#refuse(undefined, -32700, "Parse error: a line is not JSON");
      return undefined;
    }
    try {
      return parseJSONRPCMessage(json);
    } catch {
      const { id } = isObject(json) ? json : {};
      const known = typeof id === "string" || typeof id === "number" ? id : undefined;
      this.#refuse(known, -32600, "Invalid request: not a JSON-RPC 2.0 message");
      return undefined;
    }
  }

  /** A cancelled request gets no answer. */
  #settleCancelled(message: JSONRPCMessage): void {
    if (!("method" in message) || message.method !== "notifications/cancelled") return;
    const { requestId: id } = message.params ?? {};
    if (typeof id === "string" || typeof id === "number") this.#unanswered.delete(id);
  }

  #refuse(id: Id | undefined, code: number, message: string): void {
    this.onerror?.(new Error(message));
    this.#write(`${JSON.stringify({ jsonrpc: "2.0", id: id ?? null, error: { code, message } })}\n`);
  }

  async send(message: JSONRPCMessage): Promise<void> {
    if (this.#closed) throw new Error("The connection is closed");
    const room = this.#write(serializeMessage(message));
    if (isJSONRPCResponse(message) && message.id !== undefined) {
      this.#unanswered.delete(message.id);
      this.#closeWhenAnswered();
    }
    if (!room) await this.#drained();
  }

  #write(line: string): boolean {
    return this.#closed || this.#output.write(line);
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const settle = (): void => {
        this.#output.off("drain", settle);
        this.#output.off("close", settle);
        resolve();
      };
      this.#output.on("drain", settle);
      this.#output.on("close", settle);
    });
  }

  readonly #ended = (): void => {
    if (this.#closed || this.#ending !== undefined) return;
    this.#ending = setTimeout(() => void this.close(), drainMs);
    this.#closeWhenAnswered();
  };

  #closeWhenAnswered(): void {
    // Messages are handled in turns of the event loop: what is read together with the end is not asked yet.
    if (this.#ending !== undefined && this.#unanswered.size === 0) setImmediate(() => void this.close());
  }

  readonly #failed = (error: Error): void => {
    if (this.#closed) return;
    this.onerror?.(error);
    void this.close();
  };

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ending);
    this.#input.off("data", this.#received);
    this.#input.off("end", this.#ended);
    this.#input.off("close", this.#ended);
    this.#input.pause();
    this.onclose?.();
    this.#over();
  }
}
