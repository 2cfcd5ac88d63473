import { Duplex } from "node:stream";
import { quoted, SandboxError } from "../../../errors.ts";

const headerBytes = 8;
/** Engines frame what one read gave them, 32 KiB; a longer frame means that the framing is lost. */
const maxFrameBytes = 16 * 1024 * 1024;
const maxStderrBytes = 4 * 1024;
const stdin = 0;
const stdout = 1;
const stderr = 2;

/**
 * The engine's multiplexed framing (8 bytes of type and length, then data), undone without copying. What is written goes out
 * as it is; stderr is kept for the message when the stream breaks.
 */
export class Demultiplexer {
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  #type = stdout;
  #remaining = 0;
  #stderr = "";

  /** The pieces of stdout in this chunk. Throws when it is not framed. */
  push(chunk: Buffer): Buffer[] {
    const pieces: Buffer[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#remaining === 0) {
        const take = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
        chunk.copy(this.#header, this.#headerFilled, at, at + take);
        this.#headerFilled += take;
        at += take;
        if (this.#headerFilled === headerBytes) this.#begin();
        continue;
      }
      const end = Math.min(at + this.#remaining, chunk.length);
      const piece = chunk.subarray(at, end);
      this.#remaining -= piece.length;
      at = end;
      if (this.#type === stdout) pieces.push(piece);
      else if (this.#type === stderr && this.#stderr.length < maxStderrBytes) {
        this.#stderr += piece.toString("utf8", 0, maxStderrBytes - this.#stderr.length);
      }
    }
    return pieces;
  }

  /** The beginning of what came on stderr. */
  get stderr(): string {
    return this.#stderr.trim();
  }

  /** Whether the bytes so far end between two frames. */
  get complete(): boolean {
    return this.#remaining === 0 && this.#headerFilled === 0;
  }

  #begin(): void {
    this.#headerFilled = 0;
    const type = this.#header[0];
    const length = this.#header.readUInt32BE(4);
    const padded = this.#header[1] === 0 && this.#header[2] === 0 && this.#header[3] === 0;
    if ((type !== stdin && type !== stdout && type !== stderr) || !padded || length > maxFrameBytes) {
      throw new Error("the engine's stream is not framed as agreed");
    }
    this.#type = type;
    this.#remaining = length;
  }
}

/** The newest whole lines of stdout in a framed log. */
export function lastLines(framed: Buffer, max: { lines: number; bytes: number }): string[] {
  const bytes = Buffer.concat(new Demultiplexer().push(framed));
  const lines = bytes
    .subarray(Math.max(0, bytes.length - max.bytes))
    .toString("utf8")
    .split("\n");
  if (bytes.length > max.bytes) lines.shift();
  return lines.filter((line) => line !== "").slice(-max.lines);
}

/**
 * The stdin and stdout of a process the engine attached us to, as one stream. Its end is the process's end; whatever breaks
 * it is a GUEST_UNAVAILABLE that quotes the process's stderr.
 */
export class AttachedStream extends Duplex {
  readonly #wire: Duplex;
  readonly #frames = new Demultiplexer();
  #ended = false;
  #received = false;

  constructor(wire: Duplex) {
    super({ allowHalfOpen: true, readableHighWaterMark: 256 * 1024, writableHighWaterMark: 256 * 1024 });
    this.#wire = wire;
    if ("setNoDelay" in wire && typeof wire.setNoDelay === "function") wire.setNoDelay(true);
    wire.on("data", (chunk: Buffer) => this.#onData(chunk));
    wire.once("end", () => this.#onEnd());
    wire.once("error", (error) => this.#fail("broke", error));
    wire.once("close", () => {
      if (!this.#ended) this.#fail("was closed");
      // Both directions are over: a write nobody reads must not stay pending.
      else if (!this.destroyed && this.readableEnded) this.destroy();
    });
  }

  override _read(): void {
    if (!this.#ended) this.#wire.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#send(this.#wire.write(chunk), callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#wire.cork();
    let room = true;
    for (const { chunk } of chunks) room = this.#wire.write(chunk);
    this.#wire.uncork();
    this.#send(room, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    // Half-close: the process sees the end of its stdin and may still answer.
    if (!this.#wire.destroyed) this.#wire.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#wire.destroy();
    callback(error);
  }

  #send(room: boolean, callback: (error?: Error | null) => void): void {
    if (room || this.#wire.destroyed) {
      callback(this.#wire.destroyed ? closed() : null);
      return;
    }
    const settle = () => {
      this.#wire.off("drain", settle);
      this.#wire.off("close", settle);
      callback(this.#wire.destroyed ? closed() : null);
    };
    this.#wire.once("drain", settle);
    this.#wire.once("close", settle);
  }

  #onData(chunk: Buffer): void {
    let room = true;
    try {
      for (const piece of this.#frames.push(chunk)) {
        this.#received = true;
        room = this.push(piece);
      }
    } catch (error) {
      this.#fail("is garbled", error);
      return;
    }
    if (!room) this.#wire.pause();
  }

  #onEnd(): void {
    this.#ended = true;
    if (!this.#frames.complete) this.#fail("broke off in the middle");
    else if (!this.#received && this.#frames.stderr !== "") this.#fail("could not be opened");
    else this.push(null);
  }

  #fail(what: string, cause?: unknown): void {
    if (this.destroyed) return;
    this.#ended = true;
    const words = this.#frames.stderr === "" ? "" : `: ${quoted(this.#frames.stderr)}`;
    this.destroy(new SandboxError("GUEST_UNAVAILABLE", `The stream to the guest ${what}${words}.`, { cause }));
  }
}

function closed(): SandboxError {
  return new SandboxError("GUEST_UNAVAILABLE", "The stream to the guest has closed.");
}
