import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { AttachedStream, Demultiplexer, lastLines } from "../../../src/sandbox/backends/docker/stream.ts";

function frame(type: number, data: string | Buffer): Buffer {
  const body = Buffer.from(data);
  const header = Buffer.alloc(8);
  header[0] = type;
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

describe("frames", () => {
  const bytes = Buffer.concat([frame(1, "hello "), frame(2, "oops"), frame(1, ""), frame(1, "world"), frame(0, "in")]);

  test.each([1, 2, 3, 7, 8, 9, 13, 1000])("are undone when they come %i bytes at a time", (step) => {
    const frames = new Demultiplexer();
    const out: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += step) out.push(...frames.push(bytes.subarray(at, at + step)));
    expect(Buffer.concat(out).toString()).toBe("hello world");
    expect(frames.stderr).toBe("oops");
    expect(frames.complete).toBe(true);
  });

  test("that are cut off are incomplete", () => {
    const frames = new Demultiplexer();
    frames.push(bytes.subarray(0, 10));
    expect(frames.complete).toBe(false);
  });

  test.each([
    ["of an unknown type", Buffer.from([3, 0, 0, 0, 0, 0, 0, 1, 0])],
    ["that are text", Buffer.from("OCI runtime exec failed")],
    ["of an absurd length", Buffer.from([1, 0, 0, 0, 255, 255, 255, 255])],
    ["with a padding that is none", Buffer.from([1, 0, 1, 0, 0, 0, 0, 1])],
  ])("%s are refused", (_, garbage) => {
    expect(() => new Demultiplexer().push(garbage)).toThrow(/not framed/);
  });

  test("of stderr are kept up to 4 KiB", () => {
    const frames = new Demultiplexer();
    for (let i = 0; i < 100; i++) frames.push(frame(2, "x".repeat(1000)));
    expect(frames.stderr).toHaveLength(4096);
  });
});

test("a log's last lines are whole, and as many as asked for", () => {
  const log = Buffer.concat([frame(1, "one\ntw"), frame(2, "noise\n"), frame(1, "o\nthree\n")]);
  expect(lastLines(log, { lines: 10, bytes: 100 })).toEqual(["one", "two", "three"]);
  expect(lastLines(log, { lines: 1, bytes: 100 })).toEqual(["three"]);
  expect(lastLines(log, { lines: 10, bytes: 8 })).toEqual(["three"]);
  expect(lastLines(Buffer.alloc(0), { lines: 10, bytes: 8 })).toEqual([]);
});

describe("an attached stream", () => {
  const cleanups: (() => void)[] = [];
  afterEach(() => {
    for (const cleanup of cleanups.splice(0)) cleanup();
  });

  /** A stream over a real unix socket, and the engine's end of it. */
  async function pair(): Promise<{ stream: AttachedStream; engine: Socket }> {
    const folder = mkdtempSync(join(tmpdir(), "chorus-stream-"));
    const server = createServer({ allowHalfOpen: true });
    server.listen(join(folder, "s"));
    await once(server, "listening");
    const wire = connect(join(folder, "s"));
    const [engine]: [Socket] = (await once(server, "connection")) as [Socket];
    engine.on("error", () => {});
    const stream = new AttachedStream(wire);
    cleanups.push(() => {
      stream.on("error", () => {}).destroy();
      engine.destroy();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    });
    return { stream, engine };
  }

  test("carries both directions and both ends", async () => {
    const { stream, engine } = await pair();
    stream.end("question");
    const asked: Buffer[] = [];
    engine.on("data", (chunk: Buffer) => asked.push(chunk));
    await once(engine, "end");
    expect(Buffer.concat(asked).toString()).toBe("question");
    engine.end(Buffer.concat([frame(1, "ans"), frame(1, "wer")]));
    const answered: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => answered.push(chunk));
    await once(stream, "close");
    expect(Buffer.concat(answered).toString()).toBe("answer");
  });

  test("moves many bytes unharmed, at the reader's pace", async () => {
    const { stream, engine } = await pair();
    const chunk = Buffer.alloc(60_000, "abcdefg");
    let accepted = 0;
    const total = 400;
    const feed = (async () => {
      for (let i = 0; i < total; i++) {
        if (!engine.write(frame(1, chunk))) await once(engine, "drain");
        accepted++;
      }
      engine.end();
    })();
    await once(stream, "readable");
    // Nobody reads: the sender is held back by what the buffers take, far below the 24 MB it has.
    await new Promise((resolve) => setImmediate(resolve));
    expect(accepted).toBeLessThan(total);
    let size = 0;
    for await (const piece of stream) size += (piece as Buffer).length;
    await feed;
    expect(size).toBe(total * chunk.length);
  });

  test("holds a writer back when the process does not read, and fails it when the process dies", async () => {
    const { stream, engine } = await pair();
    const failed = once(stream, "error");
    engine.pause();
    const chunk = Buffer.alloc(64 * 1024);
    let written = 0;
    while (stream.write(chunk) && written < 1000) written++;
    expect(written).toBeLessThan(1000);
    engine.destroy();
    expect((await failed)[0]).toMatchObject({ code: "GUEST_UNAVAILABLE" });
    expect(stream.destroyed).toBe(true);
  });

  test("that could not be opened says what the process said", async () => {
    const { stream, engine } = await pair();
    engine.end(frame(2, "dial unix /run/chorus/guest.sock: no such file\n"));
    await expect(stream.toArray()).rejects.toMatchObject({
      code: "GUEST_UNAVAILABLE",
      message: expect.stringContaining('"dial unix /run/chorus/guest.sock: no such file"'),
    });
  });

  test("that breaks off in a frame, or is garbled, fails", async () => {
    const cut = await pair();
    cut.engine.end(frame(1, "whole").subarray(0, 10));
    await expect(cut.stream.toArray()).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
    const garbled = await pair();
    garbled.engine.write("OCI runtime exec failed: exec failed");
    await expect(garbled.stream.toArray()).rejects.toMatchObject({ code: "GUEST_UNAVAILABLE" });
  });

  test("that ends stays readable to its end", async () => {
    const { stream, engine } = await pair();
    engine.end(Buffer.concat([frame(1, "last words"), frame(2, "and a warning")]));
    expect(Buffer.concat(await stream.toArray()).toString()).toBe("last words");
  });
});
