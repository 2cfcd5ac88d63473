import {
  closeSync,
  type Dir,
  fstatSync,
  lstatSync,
  opendirSync,
  openSync,
  read,
  readlinkSync,
  readSync,
  type Stats,
} from "node:fs";
import { setImmediate as breathe } from "node:timers/promises";
import { promisify } from "node:util";
import { systemCode } from "../../errors.ts";
import { inside, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, openFolder } from "./descriptors.ts";
import type { PathRules } from "./ignore.ts";
import { linkStays, type Refusals, toText } from "./names.ts";
import { archiveEnd, blockBytes, padding, tarHeader } from "./tar-format.ts";

/** What of a tree is taken. */
export interface Selection {
  /** undefined: everything. */
  include: PathRules | undefined;
  exclude: PathRules;
}

/** Counts as the archive is made. */
export interface Tally {
  files: number;
  bytes: number;
  refusals: Refusals;
}

const pieceBytes = 256 * 1024;
/** Files up to here are read at once, into the piece that is being filled. */
const smallBytes = 64 * 1024;
const largePieceBytes = 512 * 1024;
const breatheEvery = 256;
const nothing = Buffer.alloc(0);
const mostEntries = 1_000_000;
const mostDepth = 200;

const readAt = promisify(read);

/**
 * A folder of the host as a tar stream, names relative to it. Reads only as fast as it is consumed; now and then a piece is empty,
 * so that who consumes it may stop though nothing is taken. `folder` stays the caller's.
 */
export async function* archiveFolder(folder: number, selection: Selection, tally: Tally): AsyncGenerator<Buffer> {
  yield* new Archive(selection, tally).folder(folder);
}

/** One file as a tar stream, under a name of the caller's. */
export async function* archiveFile(
  file: { fd: number; name: string },
  as: string,
  tally: Tally,
): AsyncGenerator<Buffer> {
  yield* new Archive({ include: undefined, exclude: { says: () => undefined } }, tally).file(file.fd, file.name, as);
}

interface Level {
  fd: number;
  dir: Dir;
  path: string[];
  /** Whether an include pattern took this folder, and so what is in it. */
  included: boolean;
}

class Archive {
  readonly #selection: Selection;
  readonly #tally: Tally;
  #piece = Buffer.allocUnsafe(pieceBytes);
  #used = 0;
  #seen = 0;

  constructor(selection: Selection, tally: Tally) {
    this.#selection = selection;
    this.#tally = tally;
  }

  async *file(folder: number, file: string, as: string): AsyncGenerator<Buffer> {
    yield* this.#entry(folder, file, as, 0);
    yield* this.#end();
  }

  async *folder(root: number): AsyncGenerator<Buffer> {
    const open: Level[] = [];
    const enter = (fd: number, path: string[], included: boolean): void => {
      const dir = opendirSync(`/proc/self/fd/${fd}`, { encoding: "latin1", bufferSize: 128 });
      open.push({ fd, dir, path, included });
    };
    try {
      enter(root, [], this.#selection.include === undefined);
      for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
        const dirent = level.dir.readSync();
        if (dirent === null) {
          open.pop();
          leave(level, root);
          continue;
        }
        if (++this.#seen % breatheEvery === 0) {
          await breathe();
          yield nothing;
        }
        const { name } = dirent;
        const path = [...level.path, name];
        const taken = this.#takes(path, dirent.isDirectory(), level.included);
        if (taken === "no") continue;
        const full = path.join("/");
        if (this.#seen > mostEntries) {
          this.#tally.refusals.add(full, "more than 1000000 entries");
          return yield* this.#end();
        }
        if (!dirent.isDirectory()) {
          if (taken === "yes") yield* this.#entry(level.fd, name, full, path.length - 1);
        } else if (path.length > mostDepth) this.#tally.refusals.add(full, "too many folders deep");
        else yield* this.#into(level.fd, name, full, (fd) => enter(fd, path, taken === "yes"), taken === "yes");
      }
      yield* this.#end();
    } finally {
      for (const level of open) leave(level, root);
    }
  }

  /** `within`: not itself, but something in it may be. */
  #takes(path: readonly string[], isDir: boolean, parentIncluded: boolean): "yes" | "no" | "within" {
    const { include, exclude } = this.#selection;
    const words = path.map(toText);
    if (exclude.says(words, isDir) === true) return "no";
    if (include?.says(words, isDir) ?? parentIncluded) return "yes";
    return isDir ? "within" : "no";
  }

  *#into(parent: number, name: string, full: string, enter: (fd: number) => void, told: boolean): Generator<Buffer> {
    let fd: number;
    try {
      fd = openFolder(parent, name);
    } catch (error) {
      return this.#refuse(full, error);
    }
    try {
      enter(fd);
    } catch (error) {
      closeSync(fd);
      return this.#refuse(full, error);
    }
    if (!told) return;
    const { mode, mtimeMs } = fstatSync(fd);
    yield* this.#put(tarHeader({ name: full, type: "dir", mode, size: 0, mtimeS: mtimeMs / 1000 }));
  }

  async *#entry(folder: number, name: string, full: string, depth: number): AsyncGenerator<Buffer> {
    const at = inside(folder, name);
    let fd: number;
    let stats: Stats;
    try {
      const before = lstatSync(at);
      if (before.isSymbolicLink()) return yield* this.#link(at, full, depth, before);
      // Opening a device may do something; what becomes one after this look was put there by root.
      if (!before.isFile()) return this.#tally.refusals.add(full, kindOf(before));
      fd = openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      return this.#refuse(full, error);
    }
    try {
      stats = fstatSync(fd);
      if (!stats.isFile()) return this.#tally.refusals.add(full, kindOf(stats));
      const { mode, size, mtimeMs } = stats;
      yield* this.#put(tarHeader({ name: full, type: "file", mode, size, mtimeS: mtimeMs / 1000 }));
      const got = size <= smallBytes ? yield* this.#small(fd, size) : yield* this.#large(fd, size);
      this.#tally.files++;
      this.#tally.bytes += size;
      if (got < size) this.#tally.refusals.add(full, "became shorter while it was read: filled up with zeros");
    } finally {
      closeSync(fd);
    }
  }

  *#link(at: Buffer, full: string, depth: number, { mode, mtimeMs }: Stats): Generator<Buffer> {
    const target = readlinkSync(at, "latin1");
    if (!linkStays(depth, target)) return this.#tally.refusals.add(full, "link that leads out of the folder");
    yield* this.#put(tarHeader({ name: full, type: "symlink", mode, size: 0, mtimeS: mtimeMs / 1000, target }));
    this.#tally.files++;
  }

  *#small(fd: number, size: number): Generator<Buffer, number> {
    if (this.#used + size + blockBytes > pieceBytes) yield* this.#flush();
    let got = 0;
    while (got < size) {
      const more = readSync(fd, this.#piece, this.#used + got, size - got, got);
      if (more === 0) break;
      got += more;
    }
    const whole = size + padding(size);
    this.#piece.fill(0, this.#used + got, this.#used + whole);
    this.#used += whole;
    return got;
  }

  /** Reads one piece ahead of the one that is being sent. */
  async *#large(fd: number, size: number): AsyncGenerator<Buffer, number> {
    yield* this.#flush();
    const fetch = async (at: number): Promise<Buffer> => {
      const piece = Buffer.allocUnsafe(Math.min(largePieceBytes, size - at));
      const { bytesRead } = await readAt(fd, piece, 0, piece.length, at);
      return piece.subarray(0, bytesRead);
    };
    let got = 0;
    let next: Promise<Buffer> | undefined = fetch(0);
    try {
      while (next !== undefined) {
        const piece: Buffer = await next;
        got += piece.length;
        next = piece.length > 0 && got < size ? fetch(got) : undefined;
        if (piece.length > 0) yield piece;
      }
    } finally {
      // The file is closed when this ends: a read that is under way must end before.
      await next?.catch(() => {});
    }
    for (let missing = size - got; missing > 0; missing -= largePieceBytes) {
      yield Buffer.alloc(Math.min(largePieceBytes, missing));
    }
    yield* this.#put(Buffer.alloc(padding(size)));
    return got;
  }

  #refuse(full: string, error: unknown): void {
    const code = systemCode(error);
    if (code === "ENOENT") return;
    const why = code === "EACCES" || code === "EPERM" ? "not readable" : `cannot be read (${code})`;
    this.#tally.refusals.add(full, code === "ELOOP" || code === "ENOTDIR" ? "changed while it was read" : why);
  }

  *#put(bytes: Buffer): Generator<Buffer> {
    if (this.#used + bytes.length > pieceBytes) yield* this.#flush();
    this.#used += bytes.copy(this.#piece, this.#used);
  }

  *#flush(): Generator<Buffer> {
    if (this.#used === 0) return;
    // What was handed out belongs to whoever sends it.
    yield this.#piece.subarray(0, this.#used);
    this.#piece = Buffer.allocUnsafe(pieceBytes);
    this.#used = 0;
  }

  *#end(): Generator<Buffer> {
    yield* this.#put(archiveEnd);
    yield* this.#flush();
  }
}

function leave({ dir, fd }: Level, root: number): void {
  dir.closeSync();
  if (fd !== root) closeSync(fd);
}

function kindOf(stats: Stats): string {
  if (stats.isFIFO()) return "fifo";
  if (stats.isSocket()) return "socket";
  return stats.isDirectory() ? "changed while it was read" : "device";
}
