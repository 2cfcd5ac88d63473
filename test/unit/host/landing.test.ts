import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Landing } from "../../../src/sandbox/host/landing.ts";
import { Refusals, toBytes } from "../../../src/sandbox/host/names.ts";
import {
  archiveEnd,
  blockBytes,
  checksum,
  padding,
  type TarHead,
  tarHeader,
} from "../../../src/sandbox/host/tar-format.ts";
import { TarReader } from "../../../src/sandbox/host/tar-reader.ts";

interface Piece extends Partial<TarHead> {
  name: string;
  body?: string;
  /** Type flag to put over what the type says. */
  flag?: string;
  /** Done before this entry is read. */
  first?: () => void;
}

function blocks({ name, body = "", flag, type = "file", target, mode = 0o644, size }: Piece): Buffer {
  const head = tarHeader({
    name,
    type,
    mode,
    size: size ?? body.length,
    mtimeS: 1,
    ...(target !== undefined && { target }),
  });
  if (flag !== undefined) {
    const at = head.length - blockBytes;
    head.write(flag, at + 156, "latin1");
    head.write(`${checksum(head.subarray(at)).toString(8).padStart(6, "0")}\0 `, at + 148, "latin1");
  }
  return Buffer.concat([head, Buffer.from(body), Buffer.alloc(padding(body.length))]);
}

async function* stream(pieces: readonly (Piece | Buffer)[], cut = 7_919): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    if (!Buffer.isBuffer(piece)) piece.first?.();
    const bytes = Buffer.isBuffer(piece) ? piece : blocks(piece);
    for (let at = 0; at < bytes.length; at += cut) yield bytes.subarray(at, at + cut);
  }
}

function house() {
  const base = realpathSync(mkdtempSync(path.join(tmpdir(), "chorus-landing-")));
  const root = path.join(base, "root");
  const outside = path.join(base, "outside");
  for (const dir of [root, outside]) mkdirSync(dir);
  const fd = openSync(root, "r");
  onTestFinished(() => {
    closeSync(fd);
    rmSync(base, { recursive: true, force: true });
  });
  const land = async (pieces: readonly (Piece | Buffer)[], cut?: number) => {
    const refusals = new Refusals();
    const landing = new Landing({ fd }, refusals);
    try {
      await landing.take(new TarReader(stream(pieces, cut)), () => {});
    } finally {
      landing[Symbol.dispose]();
    }
    return { files: landing.files, bytes: landing.bytes, refused: refusals.list };
  };
  return { base, root, outside, land };
}

describe("an archive", () => {
  it("lands whole, however it is cut", async () => {
    for (const cut of [1, 511, 512, 513, 100_000]) {
      const { root, land } = house();
      const big = "0123456789".repeat(cut === 1 ? 30 : 30_000);
      const long = `${"d".repeat(200)}/${"f".repeat(200)}`;
      const done = await land(
        [
          { name: "dir", type: "dir", mode: 0o750 },
          { name: "dir/a", body: "a" },
          { name: "big", body: big, mode: 0o600 },
          { name: toBytes(long), body: "long" },
          { name: "link", type: "symlink", target: "dir/a" },
          archiveEnd,
        ],
        cut,
      );
      expect(done).toMatchObject({ files: 4, refused: [] });
      expect(readFileSync(path.join(root, "big"), "utf8")).toBe(big);
      expect(readFileSync(path.join(root, long), "utf8")).toBe("long");
      expect(lstatSync(path.join(root, "dir")).mode & 0o777).toBe(0o750);
      expect(lstatSync(path.join(root, "big")).mode & 0o777).toBe(0o600);
    }
  });

  it.each<[what: string, piece: Piece, why: RegExp]>([
    ["an absolute name", { name: "/etc/x", body: "x" }, /absolute/],
    ["a name with ..", { name: "a/../../x", body: "x" }, /\.\./],
    ["a hard link", { name: "x", flag: "1", target: "/etc/passwd" }, /hard link/],
    ["a device", { name: "x", flag: "3" }, /device/],
    ["a fifo", { name: "x", flag: "6" }, /fifo/],
    ["a sparse file", { name: "x", flag: "S", body: "map" }, /sparse/],
    ["an unknown kind", { name: "x", flag: "Z", body: "?" }, /unknown/],
    ["a link out", { name: "x", type: "symlink", target: "../outside" }, /out of/],
    ["an absolute link", { name: "x", type: "symlink", target: "/etc/passwd" }, /out of/],
    ["a link out behind a name", { name: "d/x", type: "symlink", target: "y/../../../z" }, /out of/],
    ["an endless name", { name: "x".repeat(300), body: "x" }, /too long/],
    ["a path without end", { name: "x/".repeat(3000), body: "x" }, /too long|deep/],
  ])("%s is passed over and told, what follows lands", async (_what, piece, why) => {
    const { root, land } = house();
    const done = await land([piece, { name: "after", body: "ok" }, archiveEnd]);
    expect(done.refused).toEqual([{ path: expect.any(String), why: expect.stringMatching(why) }]);
    expect(readFileSync(path.join(root, "after"), "utf8")).toBe("ok");
    expect(readdirSync(root).filter((name) => name !== "after" && name !== "d")).toEqual([]);
  });

  it("cannot write through its own links", async () => {
    const { root, outside, land } = house();
    const done = await land([
      { name: "here", type: "symlink", target: "." },
      { name: "here/x", body: "x" },
      { name: "up", type: "symlink", target: "here/../../outside" },
      { name: "up/x", body: "x" },
      archiveEnd,
    ]);
    expect(done.refused.map(({ path: at }) => at)).toEqual(["here/x", "up"]);
    expect(readdirSync(root).sort()).toEqual(["here", "up"]);
    expect(readdirSync(outside)).toEqual([]);
  });

  it.each<[what: string, pieces: (Piece | Buffer)[], why: string]>([
    ["a wrong checksum", [Buffer.alloc(512, "1")], "checksum"],
    ["an end in the middle", [blocks({ name: "x", body: "hello" }).subarray(0, 514)], "middle"],
    ["a file that is shorter than it says", [{ name: "x", body: "hi", size: 4096 }], "middle"],
    [
      "headers without end",
      Array.from({ length: 20 }, () => blocks({ name: "g", flag: "g", body: "" })),
      "too many headers",
    ],
    ["a name of 100 KB", [{ name: "././@LongLink", flag: "L", body: "n".repeat(100_000) }], "too long"],
    ["a broken pax header", [{ name: "p", flag: "x", body: "99 path=x\n" }], "pax"],
  ])("%s is nonsense", async (_what, pieces, why) => {
    await expect(house().land(pieces)).rejects.toMatchObject({
      code: "GUEST_UNAVAILABLE",
      message: expect.stringContaining(why),
    });
  });

  it("that says it holds more than the disk is refused before it is read, whatever it holds", async () => {
    for (const piece of [{ name: "x" }, { name: "x", flag: "S" }, { name: "../x" }]) {
      const { root, land } = house();
      const huge = { ...piece, size: Number.MAX_SAFE_INTEGER };
      await expect(land([{ name: "before", body: "b" }, huge])).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
      expect(readdirSync(root)).toEqual(["before"]);
    }
  });

  it("speaks pax", async () => {
    const { root, land } = house();
    const record = (text: string) => {
      let length = text.length + 3;
      while (`${length} ${text}\n`.length !== length) length = `${length} ${text}\n`.length;
      return `${length} ${text}\n`;
    };
    const body = [record(`path=${toBytes(`ü/${"n".repeat(150)}`)}`), record("size=5"), record("mtime=12.5")].join("");
    const head = Buffer.concat([
      tarHeader({ name: "p", type: "file", mode: 0o644, size: body.length, mtimeS: 0 }),
      Buffer.from(body, "latin1"),
      Buffer.alloc(padding(body.length)),
    ]);
    head.write("x", 156);
    head.write(`${checksum(head).toString(8).padStart(6, "0")}\0 `, 148);
    await land([head, blocks({ name: "short", body: "12345" }), archiveEnd]);
    expect(readFileSync(path.join(root, `ü/${"n".repeat(150)}`), "utf8")).toBe("12345");
  });
});

describe("a host that changes meanwhile", () => {
  it("a folder swapped for a link gets nothing through it", async () => {
    const { root, outside, land } = house();
    await land([
      { name: "dir", type: "dir" },
      { name: "dir/before", body: "1" },
      {
        name: "dir/after",
        body: "2",
        first: () => {
          renameSync(path.join(root, "dir"), path.join(root, "moved"));
          symlinkSync(outside, path.join(root, "dir"));
        },
      },
      { name: "other/x", body: "3" },
      { name: "dir/again", body: "4" },
      archiveEnd,
    ]);
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(path.join(root, "moved")).sort()).toEqual(["after", "before"]);
  });

  it("a link in a file's place is replaced, never written through", async () => {
    const { root, outside, land } = house();
    writeFileSync(path.join(outside, "key"), "secret");
    symlinkSync(path.join(outside, "key"), path.join(root, "x"));
    await land([{ name: "x", body: "new" }, archiveEnd]);
    expect(readFileSync(path.join(outside, "key"), "utf8")).toBe("secret");
    expect(lstatSync(path.join(root, "x")).isSymbolicLink()).toBe(false);
  });
});
