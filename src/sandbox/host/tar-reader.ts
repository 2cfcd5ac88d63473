import { quoted, SandboxError } from "../../errors.ts";
import { toBytes } from "./names.ts";
import { blockBytes, checksum, padding } from "./tar-format.ts";

/** An entry of an archive nobody vouches for. Names and targets are byte strings. */
export interface TarEntry {
  name: string;
  type: "file" | "dir" | "symlink" | "other";
  /** What an `other` is. */
  what: string;
  mode: number;
  size: number;
  mtimeS: number;
  target: string;
}

/** Names and such that stand before an entry. */
const mostMetaBytes = 64 * 1024;
const mostMetas = 8;

const others: Record<string, string> = {
  "1": "hard link",
  "3": "device",
  "4": "device",
  "6": "fifo",
  S: "sparse file",
};

/** Reads a tar stream (ustar, pax, GNU's long names) entry by entry, holding no more than a piece of it. */
export class TarReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  #bodyLeft = 0;
  #padding = 0;

  constructor(archive: AsyncIterable<Buffer>) {
    this.#chunks = archive[Symbol.asyncIterator]();
  }

  /** The next entry, or undefined at the archive's own end: a stream that ends before was cut. What is left of the body before is passed over. */
  async next(): Promise<TarEntry | undefined> {
    for (let piece = await this.body(); piece !== undefined; piece = await this.body());
    const meta: { name?: string; target?: string; size?: number; mtimeS?: number; sparse?: boolean } = {};
    for (let metas = 0; metas <= mostMetas; metas++) {
      const head = await this.#take(blockBytes);
      if (head.every((byte) => byte === 0)) {
        await this.#toEnd();
        return undefined;
      }
      if (number(head, 148, 8) !== checksum(head)) throw nonsense("a header's checksum is wrong");
      const flag = String.fromCharCode(head[156] ?? 0);
      const size = number(head, 124, 12);
      if (!"xgLK".includes(flag)) return this.#entry(head, flag, meta.size ?? size, meta);
      if (size > mostMetaBytes) throw nonsense("a name is too long");
      const body = (await this.#take(size + padding(size))).subarray(0, size).toString("latin1");
      if (flag === "L") meta.name = untilNul(body);
      else if (flag === "K") meta.target = untilNul(body);
      else if (flag === "x") Object.assign(meta, paxRecords(body));
    }
    throw nonsense("an entry has too many headers");
  }

  #entry(
    head: Buffer,
    flag: string,
    size: number,
    meta: { name?: string; target?: string; mtimeS?: number; sparse?: boolean },
  ): TarEntry {
    const ustar = head.toString("latin1", 257, 263) === "ustar\0";
    const prefix = ustar ? text(head, 345, 155) : "";
    const name = meta.name ?? (prefix === "" ? text(head, 0, 100) : `${prefix}/${text(head, 0, 100)}`);
    const isDir = flag === "5" || (flag === "\0" && name.endsWith("/"));
    const isFile = (flag === "0" || flag === "\0" || flag === "7") && !isDir && meta.sparse !== true;
    const type = isFile ? "file" : isDir ? "dir" : flag === "2" ? "symlink" : "other";
    // Only these have no body, whatever size they tell.
    this.#bodyLeft = "123456".includes(flag) ? 0 : size;
    this.#padding = padding(this.#bodyLeft);
    return {
      name,
      type,
      what: type === "other" ? (meta.sparse ? "sparse file" : (others[flag] ?? "unknown kind of entry")) : type,
      mode: number(head, 100, 8) & 0o7777,
      size: this.#bodyLeft,
      mtimeS: meta.mtimeS ?? number(head, 136, 12),
      target: meta.target ?? text(head, 157, 100),
    };
  }

  /** The next piece of the present entry's body; undefined at its end. Valid until the next call. */
  async body(): Promise<Buffer | undefined> {
    if (this.#bodyLeft === 0) {
      if (this.#padding > 0) await this.#take(this.#padding);
      this.#padding = 0;
      return undefined;
    }
    if (!(await this.#more())) throw cut();
    const piece = this.#chunk.subarray(this.#at, this.#at + this.#bodyLeft);
    this.#at += piece.length;
    this.#bodyLeft -= piece.length;
    return piece;
  }

  /** Lets go of the stream, wherever it is. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** Exactly so many bytes. */
  async #take(size: number): Promise<Buffer> {
    if (size > 0 && !(await this.#more())) throw cut();
    if (this.#chunk.length - this.#at >= size) {
      this.#at += size;
      return this.#chunk.subarray(this.#at - size, this.#at);
    }
    const whole = Buffer.allocUnsafe(size);
    for (let have = 0; have < size; ) {
      if (!(await this.#more())) throw cut();
      const copied = this.#chunk.copy(whole, have, this.#at, this.#at + size - have);
      have += copied;
      this.#at += copied;
    }
    return whole;
  }

  /** True once there is a byte to read. */
  async #more(): Promise<boolean> {
    while (this.#at >= this.#chunk.length) {
      const { value, done } = await this.#chunks.next();
      if (done) return false;
      this.#chunk = value;
      this.#at = 0;
    }
    return true;
  }

  /** What follows the empty blocks has no meaning, but the stream must come to its own end. */
  async #toEnd(): Promise<void> {
    let left = 1024 * 1024;
    while (await this.#more()) {
      left -= this.#chunk.length - this.#at;
      if (left < 0) throw nonsense("something follows its end");
      this.#at = this.#chunk.length;
    }
  }
}

function paxRecords(body: string): {
  name?: string;
  target?: string;
  size?: number;
  mtimeS?: number;
  sparse?: boolean;
} {
  const found: { name?: string; target?: string; size?: number; mtimeS?: number; sparse?: boolean } = {};
  for (let at = 0; at < body.length; ) {
    const blank = body.indexOf(" ", at);
    const length = Number(body.slice(at, blank));
    const equals = body.indexOf("=", blank);
    if (blank < 0 || equals < 0 || !Number.isInteger(length) || length <= equals - at || at + length > body.length) {
      throw nonsense("a pax header is broken");
    }
    const key = body.slice(blank + 1, equals);
    const value = body.slice(equals + 1, at + length - 1);
    if (key === "path") found.name = value;
    else if (key === "linkpath") found.target = value;
    else if (key === "size") found.size = decimal(value);
    else if (key === "mtime") found.mtimeS = Number.parseFloat(value) || 0;
    else if (key.startsWith("GNU.sparse.")) found.sparse = true;
    at += length;
  }
  return found;
}

function decimal(value: string): number {
  const size = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isNaN(size)) throw nonsense(`a size is ${quoted(toBytes(value), 32)}`);
  return size;
}

function number(head: Buffer, at: number, length: number): number {
  const first = head[at] ?? 0;
  if (first & 0x80) {
    const big = first === 0x80 && length === 12 ? head.readBigUInt64BE(at + 4) : -1n;
    if (big < 0n || big > BigInt(Number.MAX_SAFE_INTEGER)) throw nonsense("a number is out of range");
    return Number(big);
  }
  const digits = text(head, at, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw nonsense("a number is none");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

const text = (head: Buffer, at: number, length: number): string => untilNul(head.toString("latin1", at, at + length));

function untilNul(bytes: string): string {
  const end = bytes.indexOf("\0");
  return end < 0 ? bytes : bytes.slice(0, end);
}

const cut = () => nonsense("it ends in the middle");

function nonsense(why: string): SandboxError {
  return new SandboxError("GUEST_UNAVAILABLE", `The sandbox's guest sent an archive that makes no sense: ${why}.`, {
    retryable: false,
    next: "What came before is on the host; destroy the sandbox if it happens again.",
  });
}
