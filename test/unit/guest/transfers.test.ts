import { constants } from "node:http2";
import { setImmediate as breathe } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { answering, ok, type Script, scriptedGuest, unavailable } from "./scripted-guest.ts";

const extracted = { files: 1, bytes: 2, refused: [], refused_total: 0 };
const piece = Buffer.alloc(64 * 1024, 1);

/** Pieces without end, counted. */
function endless(): { source: AsyncIterable<Buffer>; given: () => number; closed: () => boolean } {
  let given = 0;
  let closed = false;
  async function* source() {
    try {
      for (;;) {
        given++;
        yield piece;
      }
    } finally {
      closed = true;
    }
  }
  return { source: source(), given: () => given, closed: () => closed };
}

async function* two(): AsyncGenerator<Buffer> {
  yield Buffer.from("a");
  yield Buffer.from("b");
}

/** Answers once all was sent. */
const onceSent =
  (script: Script): Script =>
  (stream, headers, session) => {
    stream.resume();
    stream.on("end", () => script(stream, headers, session));
  };

describe("an upload", () => {
  test("gives the answer to all that was sent", async () => {
    expect(await scriptedGuest(onceSent(answering(extracted))).putTar("x", two())).toEqual(extracted);
  });

  test("that the guest refuses early stops there", async () => {
    const { source, closed } = endless();
    const guest = scriptedGuest((stream) => {
      stream.respond({ ...ok, ":status": 507 });
      stream.end(JSON.stringify({ code: "LIMIT_EXCEEDED", message: "no space", kind: "workspace" }));
    });
    await expect(guest.putTar("x", source)).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    expect(closed()).toBe(true);
  });

  test("that the guest refuses while nothing is found to send stops, too", async () => {
    let closed = false;
    async function* searching() {
      try {
        for (;;) {
          await breathe();
          yield Buffer.alloc(0);
        }
      } finally {
        closed = true;
      }
    }
    const guest = scriptedGuest((stream) => {
      stream.respond({ ...ok, ":status": 507 });
      stream.end(JSON.stringify({ code: "LIMIT_EXCEEDED", message: "no space", kind: "workspace" }));
    });
    await expect(guest.putTar("x", searching())).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    expect(closed).toBe(true);
  });

  test("that the guest does not read holds little and is given up", async () => {
    const { source, given, closed } = endless();
    const guest = scriptedGuest(() => {}, { answerMs: 200 });
    await expect(guest.putTar("x", source)).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(given() * piece.length).toBeLessThan(4 * 2 ** 20);
    expect(closed()).toBe(true);
  });

  test("whose source is slow is not given up", async () => {
    async function* slow() {
      for (let i = 0; i < 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 400));
        yield piece;
      }
    }
    const guest = scriptedGuest(onceSent(answering(extracted)), { answerMs: 1_500 });
    expect(await guest.putTar("x", slow())).toEqual(extracted);
  });

  test("whose source fails is broken off with its error", async () => {
    let code: number | undefined;
    async function* failing() {
      yield piece;
      throw new Error("disk on fire");
    }
    const guest = scriptedGuest((stream) => {
      stream.resume();
      stream.on("close", () => {
        code = stream.rstCode;
      });
    });
    await expect(guest.putTar("x", failing())).rejects.toThrow("disk on fire");
    await expect.poll(() => code, { timeout: 20_000 }).toBe(constants.NGHTTP2_CANCEL);
  });

  test("is cancelled at once", async () => {
    const { source, closed } = endless();
    const stop = new AbortController();
    const guest = scriptedGuest((stream) => stream.once("data", () => stop.abort()));
    await expect(guest.putTar("x", source, stop.signal)).rejects.toMatchObject({ code: "ABORTED" });
    expect(closed()).toBe(true);
  });

  test.each<[what: string, script: Script, why: string]>([
    ["no JSON", onceSent(answering("files")), "makes no sense"],
    [
      "refusals beyond count",
      onceSent(answering({ ...extracted, refused: Array(201).fill({ path: "a", why: "b" }) })),
      "refused",
    ],
    ["negative files", onceSent(answering({ ...extracted, files: -1 })), "files"],
    ["a reset", (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR), "did not answer"],
    [
      "an answer without end",
      (stream) => {
        stream.respond(ok);
        stream.write(Buffer.alloc(8 * 2 ** 20));
      },
      "too much",
    ],
  ])("answered with %s is of no use", async (_what, script, why) => {
    await expect(scriptedGuest(script).putTar("x", two())).rejects.toMatchObject(unavailable(why));
  });
});

describe("a download", () => {
  const request = { path: "x", include: [], exclude: [] };
  const read = async (script: Script, options?: { answerMs?: number }) => {
    const leftOut: string[] = [];
    let bytes = 0;
    const guest = scriptedGuest(script, options);
    for await (const chunk of guest.getTar(request, (path, why) => leftOut.push(`${path}: ${why}`)))
      bytes += chunk.length;
    return { bytes, leftOut };
  };
  const trailing =
    (trailer: string): Script =>
    (stream) => {
      stream.respond(ok, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "guest-left-out": trailer }));
      stream.end("archive");
    };

  test("comes to its end, and tells what was left out", async () => {
    const trailer = JSON.stringify({ total: 3, paths: [{ path: "pipe", why: "fifo" }] });
    expect(await read(trailing(trailer))).toEqual({ bytes: 7, leftOut: ["pipe: fifo", "…: and 2 more"] });
  });

  test("with a trailer that makes no sense is not believed", async () => {
    await expect(read(trailing("[1"))).rejects.toMatchObject(unavailable("makes no sense"));
  });

  test("that is broken off is not taken for whole", async () => {
    const cut: Script = (stream) => {
      stream.respond(ok);
      stream.write("half", () => stream.destroy(new Error("cut")));
    };
    await expect(read(cut)).rejects.toMatchObject(unavailable("did not answer"));
  });

  test("that stalls is given up", async () => {
    const stalling: Script = (stream) => {
      stream.respond(ok);
      stream.write("half");
    };
    await expect(read(stalling, { answerMs: 150 })).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("is read only as fast as it is consumed", async () => {
    let sent = 0;
    const guest = scriptedGuest((stream) => {
      stream.respond(ok);
      const more = (): void => {
        while (!stream.destroyed && stream.write(piece)) sent += piece.length;
        if (!stream.destroyed) stream.once("drain", more);
      };
      more();
    });
    const chunks = guest.getTar(request, () => {})[Symbol.asyncIterator]();
    await chunks.next();
    const before = sent;
    await guest.health().catch(() => {});
    expect(sent - before).toBeLessThan(4 * 2 ** 20);
    await chunks.return?.();
  });
});
