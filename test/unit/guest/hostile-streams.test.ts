import { once } from "node:events";
import { constants, type ServerHttp2Stream } from "node:http2";
import { describe, expect, test } from "vitest";
import type { Guest } from "../../../src/sandbox/guest/types.ts";
import { answering, leaseJson, ok, rawGuest, scriptedGuest, unavailable } from "./scripted-guest.ts";

/** Writes the piece again and again, for as long as the client takes it. */
function flood(stream: ServerHttp2Stream, piece: Buffer): { sent: number } {
  const count = { sent: 0 };
  const more = (): void => {
    while (!stream.destroyed && !stream.closed) {
      count.sent += piece.length;
      if (!stream.write(piece)) {
        stream.once("drain", more);
        return;
      }
    }
  };
  more();
  return count;
}

describe("size", () => {
  test("a body without end is cut off at what was asked for", async () => {
    let count = { sent: 0 };
    const guest = scriptedGuest((stream) => {
      stream.respond(ok);
      count = flood(stream, Buffer.alloc(64 * 1024, "x"));
    });
    await expect(guest.setLease({})).rejects.toMatchObject(unavailable("more than the 16384 bytes allowed"));
    expect(count.sent).toBeLessThan(4 * 1024 * 1024);
  });

  test("a length that is told is believed before anything is read", async () => {
    const guest = scriptedGuest((stream) => stream.respond({ ...ok, "content-length": 10_000_000 }));
    await expect(guest.setLease({})).rejects.toMatchObject(unavailable("bytes allowed"));
  });

  test("headers without end", async () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`x-${n}`, "y".repeat(100)]));
    const guest = scriptedGuest((stream) => {
      stream.respond({ ...ok, ...many });
      stream.end(JSON.stringify(leaseJson));
    });
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
  });

  test("a refusal without end", async () => {
    const guest = scriptedGuest((stream) => {
      stream.respond({ ...ok, ":status": 500 });
      flood(stream, Buffer.alloc(64 * 1024, "x"));
    });
    await expect(guest.setLease({})).rejects.toMatchObject(unavailable("bytes allowed"));
  });
});

describe("time", () => {
  test("no answer at all", async () => {
    const guest = scriptedGuest(() => {}, { answerMs: 50 });
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "TIMEOUT", retryable: true });
    expect(guest.isClosed).toBe(false);
  });

  test("an answer that trickles for ever", async () => {
    const guest = scriptedGuest(
      (stream) => {
        stream.respond(ok);
        const timer = setInterval(() => stream.write(" "), 5);
        stream.on("close", () => clearInterval(timer));
      },
      { answerMs: 100 },
    );
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("informational answers for ever", async () => {
    const guest = scriptedGuest(
      (stream) => {
        const timer = setInterval(() => stream.additionalHeaders({ ":status": 103 }), 5);
        stream.on("close", () => clearInterval(timer));
      },
      { answerMs: 100 },
    );
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("a guest that never reads a body", async () => {
    const guest = scriptedGuest((stream) => stream.pause(), { answerMs: 50 });
    const written = guest.writeStdin("ex_1", Buffer.alloc(2 * 1024 * 1024), true);
    await expect(written).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("a guest that allows no streams", async () => {
    const guest = scriptedGuest(() => {}, { answerMs: 50, settings: { maxConcurrentStreams: 0 } });
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "TIMEOUT" });
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("a wait that was asked for is not counted", async () => {
    const script = (stream: ServerHttp2Stream): void => {
      setTimeout(() => {
        if (stream.destroyed) return;
        stream.respond(ok);
        stream.end(JSON.stringify({ facts: [], oldest: 1, next: 1 }));
      }, 150);
    };
    await expect(scriptedGuest(script, { answerMs: 50 }).facts(0, 0)).rejects.toMatchObject({ code: "TIMEOUT" });
    expect((await scriptedGuest(script, { answerMs: 50 }).facts(0, 5000)).facts).toEqual([]);
  });

  test("an abort resets the stream and nothing else", async () => {
    const resets: Promise<unknown>[] = [];
    const guest = scriptedGuest((stream, headers, session) => {
      if (headers[":path"] === "/v1/lease") answering(leaseJson)(stream, headers, session);
      else resets.push(once(stream, "close").then(() => stream.rstCode));
    });
    const controller = new AbortController();
    const waiting = guest.health(controller.signal);
    await guest.setLease({});
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
    expect(await Promise.all(resets)).toEqual([constants.NGHTTP2_CANCEL]);
    await expect(guest.health(AbortSignal.abort())).rejects.toMatchObject({ code: "ABORTED" });
    expect(resets).toHaveLength(1);
    expect(await guest.setLease({})).toEqual(leaseJson);
    await expect(guest.health(AbortSignal.timeout(20))).rejects.toMatchObject({
      code: "TIMEOUT",
      message: "The sandbox's guest did not answer a call for its health in time.",
    });
  });
});

describe("the connection", () => {
  const dead = async (guest: Guest, call: Promise<unknown>): Promise<void> => {
    await expect(call).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE", retryable: true });
    await guest.closed;
    expect(guest.isClosed).toBe(true);
    await expect(guest.health()).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
    await guest[Symbol.asyncDispose]();
  };

  test.each([
    ["words", Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["noise", Buffer.alloc(100_000, "\u0000\u00ff\u0013")],
    ["a frame that is too long", Buffer.from("ffffff000000000001", "hex")],
  ])("greets with %s", async (_name, bytes) => {
    const { guest, theirs } = rawGuest();
    const call = guest.health();
    theirs.write(bytes);
    await dead(guest, call);
  });

  test("ends before anything was said", async () => {
    const { guest, theirs } = rawGuest();
    const call = guest.health();
    theirs.end();
    await dead(guest, call);
  });

  test("breaks", async () => {
    const { guest, theirs } = rawGuest();
    const call = guest.health();
    theirs.destroy(new Error("broken"));
    theirs.end();
    await guest[Symbol.asyncDispose]();
    await dead(guest, call);
  });

  test.each([
    ["ends", (stream: ServerHttp2Stream) => stream.session?.close()],
    ["breaks", (stream: ServerHttp2Stream) => stream.session?.destroy()],
    ["is sent away", (stream: ServerHttp2Stream) => stream.session?.goaway(constants.NGHTTP2_INTERNAL_ERROR)],
  ])("%s in the middle of an answer", async (name, end) => {
    const guest = scriptedGuest((stream) => {
      stream.respond(ok);
      stream.write(JSON.stringify(leaseJson).slice(0, 20), () => {
        end(stream);
        if (name === "ends") stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      });
    });
    await dead(guest, guest.setLease({}));
  });

  test("every waiting call is rejected when it breaks", async () => {
    let calls = 0;
    const guest = scriptedGuest((_stream, _headers, session) => {
      calls += 1;
      if (calls === 50) session.destroy();
    });
    const all = await Promise.allSettled(Array.from({ length: 50 }, () => guest.facts(0, 60_000)));
    expect(new Set(all.map((one) => one.status === "rejected" && one.reason.code))).toEqual(
      new Set(["GUEST_UNAVAILABLE"]),
    );
    await guest.closed;
  });

  test.each([
    constants.NGHTTP2_NO_ERROR,
    constants.NGHTTP2_CANCEL,
    constants.NGHTTP2_INTERNAL_ERROR,
    constants.NGHTTP2_REFUSED_STREAM,
  ])("a stream that is reset with %i half way is no answer, and the session lives", async (code) => {
    const guest = scriptedGuest((stream, headers, session) => {
      if (headers[":path"] === "/v1/env") return answering({ keys: [] })(stream, headers, session);
      stream.respond(ok);
      stream.write(JSON.stringify(leaseJson).slice(0, 20), () => stream.close(code));
    });
    await expect(guest.setLease({})).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
    expect(await guest.patchEnv({ set: {}, unset: [] })).toEqual([]);
  });

  test("a refusal before the body was read", async () => {
    const guest = scriptedGuest((stream) => {
      stream.respond({ ...ok, ":status": 409 });
      stream.end(JSON.stringify({ code: "PAUSED", message: "paused" }), () => stream.close(constants.NGHTTP2_NO_ERROR));
    });
    const written = guest.writeFiles([{ path: "a", bytes: Buffer.alloc(4 * 1024 * 1024) }]);
    await expect(written).rejects.toMatchObject({ code: "SANDBOX_NOT_RUNNING" });
  });
});

describe("numbers", () => {
  test("ten thousand calls at once", async () => {
    const guest = scriptedGuest(answering(leaseJson), { answerMs: 60_000, settings: { maxConcurrentStreams: 100 } });
    const calls = await Promise.all(Array.from({ length: 10_000 }, () => guest.setLease({})));
    expect(calls).toHaveLength(10_000);
    expect(guest.isClosed).toBe(false);
  });

  test("a body is sent as fast as it is read, not faster", async () => {
    const size = 32 * 1024 * 1024;
    let read = 0;
    const guest = scriptedGuest((stream) => {
      stream.on("data", (chunk: Buffer) => {
        read += chunk.length;
      });
      stream.on("end", () => {
        const files = [{ path: "a", size_bytes: size, etag: "v1", created: true }];
        stream.respond(ok);
        stream.end(JSON.stringify({ files }));
      });
    });
    const {
      files: [written],
    } = await guest.writeFiles([{ path: "a", bytes: Buffer.alloc(size) }]);
    expect(written?.size_bytes).toBe(size);
    expect(read).toBeGreaterThan(size);
  });

  test("floods of control frames end the session or nothing, but never the process", async () => {
    const guest = scriptedGuest(
      (stream, _headers, session) => {
        stream.respond(ok);
        const timer = setInterval(() => {
          for (let n = 0; n < 1000 && !session.destroyed; n += 1) session.settings({ initialWindowSize: 65_535 + n });
        }, 1);
        stream.on("close", () => clearInterval(timer));
      },
      { answerMs: 200 },
    );
    await expect(guest.setLease({})).rejects.toMatchObject({
      code: expect.stringMatching(/^(TIMEOUT|GUEST_UNAVAILABLE)$/),
    });
  });
});
