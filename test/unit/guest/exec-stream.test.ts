import { once } from "node:events";
import type { ServerHttp2Stream } from "node:http2";
import { describe, expect, test } from "vitest";
import { FrameParser } from "../../../src/sandbox/guest/exec-stream.ts";
import type { ExecStreamPart } from "../../../src/sandbox/guest/types.ts";
import { answering, execJson, ok, scriptedGuest, unavailable } from "./scripted-guest.ts";

function frame(type: number, offset: number | bigint, data: Buffer | string, length?: number): Buffer {
  const bytes = Buffer.from(data);
  const head = Buffer.alloc(13);
  head.writeUInt8(type, 0);
  head.writeBigUInt64BE(BigInt(offset), 1);
  head.writeUInt32BE(length ?? bytes.length, 9);
  return Buffer.concat([head, bytes]);
}

const end = frame(3, 0, JSON.stringify(execJson));

function parse(bytes: Buffer, pieceLength: number): ExecStreamPart[] {
  const parser = new FrameParser("the test");
  const parts: ExecStreamPart[] = [];
  for (let at = 0; at < bytes.length; at += pieceLength)
    parts.push(...parser.push(bytes.subarray(at, at + pieceLength)));
  return parts;
}

describe("frames", () => {
  const bytes = Buffer.concat([frame(1, 0, "hello "), frame(2, 10, "bad"), frame(1, 6, ""), frame(1, 6, "world"), end]);

  test.each([1, 2, 13, 14, 1000])("in pieces of %i bytes", (pieceLength) => {
    const text = { stdout: "", stderr: "" };
    const next = { stdout: 0, stderr: 10 };
    for (const part of parse(bytes, pieceLength)) {
      if ("end" in part) expect(part.end).toEqual(execJson);
      else {
        expect(part.offset).toBe(next[part.stream]);
        next[part.stream] += part.bytes.length;
        text[part.stream] += part.bytes.toString();
      }
    }
    expect(text).toEqual({ stdout: "hello world", stderr: "bad" });
  });

  test("data is handed on before its frame is complete, and not copied", () => {
    const piece = frame(1, 0, "abc", 1_000_000);
    const [part] = parse(piece, 100);
    expect(part).toMatchObject({ stream: "stdout", offset: 0 });
    expect(part && "bytes" in part && part.bytes.buffer === piece.buffer).toBe(true);
  });

  test.each([
    ["an unknown type", frame(9, 0, "x"), "type 9"],
    ["an offset that goes back", Buffer.concat([frame(1, 5, "xx"), frame(1, 6, "x")]), "goes back"],
    ["an offset beyond reason", frame(1, 2n ** 63n, "x"), "goes back"],
    ["a length beyond reason", frame(1, 0, "", 2 ** 32 - 1), "too long"],
    ["an end beyond reason", frame(3, 0, "", 100_000), "no sensible length"],
    ["an end that says nothing", frame(3, 0, ""), "no sensible length"],
    ["an end that is no exec", frame(3, 0, "{}"), "protocol"],
    ["something after the end", Buffer.concat([end, frame(1, 0, "x")]), "follows the end"],
  ])("%s makes no sense", (_name, bad, why) => {
    expect(() => parse(bad, 7)).toThrow(why);
  });
});

describe("a stream", () => {
  const streaming = (write: (stream: ServerHttp2Stream) => void) =>
    scriptedGuest(
      (stream) => {
        stream.respond(ok);
        write(stream);
      },
      { answerMs: 500 },
    );
  const collect = async (parts: AsyncIterable<ExecStreamPart>): Promise<ExecStreamPart[]> => {
    const all: ExecStreamPart[] = [];
    for await (const part of parts) all.push(part);
    return all;
  };

  test("outlasts the deadline of answers while it is open", async () => {
    const guest = streaming((stream) => {
      stream.write(frame(1, 0, "a"));
      setTimeout(() => stream.end(end), 800);
    });
    expect(await collect(guest.streamExec("ex_1", {}))).toHaveLength(2);
  });

  test("that does not begin is given up", async () => {
    const guest = scriptedGuest(() => {}, { answerMs: 50 });
    await expect(collect(guest.streamExec("ex_1", {}))).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("that ends without its end is a failure", async () => {
    const guest = streaming((stream) => stream.end(frame(1, 0, "a")));
    await expect(collect(guest.streamExec("ex_1", {}))).rejects.toMatchObject(unavailable("did not answer"));
  });

  test("that breaks is a failure", async () => {
    const guest = streaming((stream) => stream.write(frame(1, 0, "a"), () => stream.session?.destroy()));
    await expect(collect(guest.streamExec("ex_1", {}))).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
  });

  test("that is refused says why", async () => {
    const guest = scriptedGuest(
      answering({ code: "EXEC_NOT_FOUND", message: "no" }, { ":status": 404, "guest-api": "1" }),
    );
    await expect(collect(guest.streamExec("ex_1", {}))).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
    const refusing = scriptedGuest((stream) => {
      stream.respond({ ":status": 500, "guest-api": "1" });
      stream.write(Buffer.alloc(1_000_000));
    });
    await expect(collect(refusing.streamExec("ex_1", {}))).rejects.toMatchObject(unavailable("status 500"));
  });

  test("of another version is refused", async () => {
    const guest = scriptedGuest(answering({}, { ":status": 200, "guest-api": "7" }));
    await expect(collect(guest.streamExec("ex_1", {}))).rejects.toMatchObject(unavailable('version "7"'));
  });

  test("ends with its signal, also while nothing comes", async () => {
    let closed: Promise<unknown> | undefined;
    const guest = streaming((stream) => {
      closed = once(stream, "close");
      stream.write(frame(1, 0, "a"));
    });
    const controller = new AbortController();
    const parts = guest.streamExec("ex_1", {}, controller.signal)[Symbol.asyncIterator]();
    await parts.next();
    const waiting = parts.next();
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
    await closed;
    await expect(collect(guest.streamExec("ex_1", {}, AbortSignal.abort()))).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("is read no faster than it is consumed, and resets when it is left", async () => {
    let sent = 0;
    let closed: Promise<unknown> | undefined;
    let offset = 0;
    const data = Buffer.alloc(64 * 1024, "x");
    const guest = streaming((stream) => {
      closed = once(stream, "close");
      const more = (): void => {
        while (!stream.destroyed && !stream.closed) {
          sent += data.length;
          const taken = stream.write(frame(1, offset, data));
          offset += data.length;
          if (!taken) {
            stream.once("drain", more);
            return;
          }
        }
      };
      more();
    });
    let got = 0;
    for await (const part of guest.streamExec("ex_1", {})) {
      if ("bytes" in part) got += part.bytes.length;
      if (got === 0) continue;
      // Other calls go through while nobody reads this one, so what was sent ahead is bounded by the window alone.
      await expect(guest.viewExec("ex_2", {})).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
      break;
    }
    await closed;
    expect(sent).toBeLessThan(8 * 1024 * 1024);
    expect(got).toBeLessThan(1024 * 1024);
  });
});
