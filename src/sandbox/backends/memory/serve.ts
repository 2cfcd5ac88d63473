import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import { Fault } from "./fault.ts";
import type { FakeGuest } from "./guest.ts";
import { type Answer, answer } from "./routes.ts";

const maxBodyBytes = 64 * 1024 * 1024;

/** The API of one fake guest, over any number of in-process connections. */
export class GuestServer {
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<Duplex>();

  constructor(guest: FakeGuest) {
    this.#server = createServer({ settings: { maxConcurrentStreams: 1000, initialWindowSize: 1024 * 1024 } });
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.on("error", () => {});
      session.on("close", () => this.#sessions.delete(session));
    });
    this.#server.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      void serve(guest, stream, headers[":method"] ?? "", headers[":path"] ?? "");
    });
  }

  connect(): Duplex {
    const [ours, theirs] = duplexPair();
    for (const socket of [ours, theirs]) {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    }
    // One end closed is the other's end, as with a process's pipes.
    ours.on("close", () => theirs.destroy());
    theirs.on("close", () => ours.destroy());
    theirs.on("error", () => {});
    this.#server.emit("connection", theirs);
    return ours;
  }

  /** Breaks every connection. */
  drop(): void {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function serve(guest: FakeGuest, stream: ServerHttp2Stream, method: string, path: string): Promise<void> {
  const gone = new AbortController();
  stream.on("close", () => gone.abort());
  let reply: Answer;
  let status = 200;
  try {
    const body = await readBody(stream);
    reply = await answer(guest, { method, url: new URL(path, "http://guest"), body, signal: gone.signal });
  } catch (error) {
    const fault = error instanceof Fault ? error : new Fault("INTERNAL", String(error));
    status = fault.status;
    reply = { json: { code: fault.code, message: fault.message, ...fault.details } };
  }
  if (stream.destroyed || stream.closed) return;
  stream.respond({ ":status": status, "guest-api": "1" });
  if ("frames" in reply) {
    for await (const frame of reply.frames) {
      if (stream.destroyed) return;
      if (!stream.write(frame)) await new Promise((resolve) => stream.once("drain", resolve).once("close", resolve));
    }
    stream.end();
  } else if ("header" in reply)
    stream.end(Buffer.concat([Buffer.from(`${JSON.stringify(reply.header)}\n`), ...reply.contents]));
  else stream.end(JSON.stringify(reply.json));
  if ("after" in reply) stream.on("close", () => reply.after?.());
}

async function readBody(stream: ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Without an encoding set, a stream's chunks are buffers.
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > maxBodyBytes) throw new Fault("LIMIT_EXCEEDED", "the body is too long", { kind: "size" });
  }
  return Buffer.concat(chunks);
}
