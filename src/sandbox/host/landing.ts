import { randomBytes } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  futimesSync,
  mkdirSync,
  openSync,
  renameSync,
  statfsSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { SandboxError, systemCode } from "../../errors.ts";
import { inside, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY, openFolder, type Root } from "./descriptors.ts";
import { writeBody } from "./file-body.ts";
import { linkStays, type Refusals, safeSegments } from "./names.ts";
import type { TarEntry, TarReader } from "./tar-reader.ts";

const mostEntries = 1_000_000;
/** What an entry costs on the disk besides its content. */
const entryBytes = 4096;
/** Left free on the host's disk, of all it has, and looked at every so many bytes. */
const reserve = 0.05;
const lookEvery = 64 * 2 ** 20;

interface Level {
  name: string;
  fd: number;
  /** Set when the folder is left: until then what is in it must be writable. */
  mode?: number;
}

/** Takes an archive of a sandbox, which may be hostile, into an open folder of the host. */
export class Landing implements Disposable {
  files = 0;
  bytes = 0;
  readonly refusals: Refusals;
  readonly #root: Pick<Root, "fd" | "enter">;
  readonly #open: Level[] = [];
  #entries = 0;
  #unlooked = 0;
  #announced = 0;
  #limit: number | undefined;

  /** @param root the folder it lands in, which stays the caller's */
  constructor(root: Pick<Root, "fd" | "enter">, refusals: Refusals) {
    this.#root = root;
    this.refusals = refusals;
  }

  /** Everything of the archive; files become visible whole, one by one. */
  async take(archive: TarReader, onProgress: () => void): Promise<void> {
    for (let entry = await archive.next(); entry !== undefined; entry = await archive.next()) {
      if (++this.#entries > mostEntries) {
        this.refusals.add(entry.name, "more than 1000000 entries");
        return;
      }
      this.#announce(entry.size);
      const path = safeSegments(entry.name);
      if ("why" in path) this.refusals.add(entry.name, path.why);
      else if (entry.type === "other") this.refusals.add(entry.name, entry.what);
      else if (path.length > 0) await this.#place(entry, path, archive);
      onProgress();
    }
  }

  /** The one file of an archive, under a name of the caller's. */
  async takeFile(archive: TarReader, name: string, onProgress: () => void): Promise<void> {
    const entry = await archive.next();
    if (entry?.type !== "file") throw new SandboxError("FILE_CONFLICT", "It changed while it was downloaded.");
    this.#announce(entry.size);
    await this.#place(entry, [name], archive, onProgress);
    if ((await archive.next()) !== undefined) this.refusals.add(entry.name, "more than one entry");
  }

  async #place(entry: TarEntry, path: string[], archive: TarReader, onProgress?: () => void): Promise<void> {
    try {
      if (entry.type === "dir") {
        this.#enter(path);
        const level = this.#open.at(-1);
        if (level) level.mode = entry.mode & 0o777;
        return;
      }
      const name = path.at(-1) ?? "";
      const folder = this.#enter(path.slice(0, -1));
      if (entry.type === "file") await this.#file(folder, name, entry, archive, onProgress);
      else if (!linkStays(path.length - 1, entry.target))
        this.refusals.add(entry.name, "link that leads out of the folder");
      else this.#link(folder, name, entry.target);
    } catch (error) {
      if (error instanceof SandboxError) throw error;
      this.refusals.add(entry.name, whyNot(error));
    }
  }

  /** Opens the folders of a path, making those that are missing, and gives the last. */
  #enter(path: readonly string[]): number {
    let same = 0;
    while (same < path.length && same < this.#open.length && this.#open[same]?.name === path[same]) same++;
    this.#leave(same);
    for (const name of path.slice(same)) {
      const parent = this.#open.at(-1)?.fd ?? this.#root.fd;
      this.#open.push({ name, fd: openOrMake(parent, name, this.#root.enter) });
    }
    return this.#open.at(-1)?.fd ?? this.#root.fd;
  }

  #leave(depth: number): void {
    for (const { fd, mode } of this.#open.splice(depth).reverse()) {
      try {
        if (mode !== undefined) fchmodSync(fd, mode);
      } catch {
        // A folder that was there and belongs to someone else keeps its mode.
      } finally {
        closeSync(fd);
      }
    }
  }

  async #file(
    folder: number,
    name: string,
    entry: TarEntry,
    archive: TarReader,
    onProgress: (() => void) | undefined,
  ): Promise<void> {
    const count = (read: number, written: number): void => {
      this.bytes += read;
      this.#wrote(written);
      onProgress?.();
    };
    count(0, entryBytes);
    const staged = inside(folder, `.chorus-${randomBytes(8).toString("hex")}.part`);
    const fd = openSync(staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      try {
        await writeBody(fd, entry.size, archive, count);
        fchmodSync(fd, entry.mode & 0o777);
        futimesSync(fd, entry.mtimeS, entry.mtimeS);
      } finally {
        closeSync(fd);
      }
      renameSync(staged, inside(folder, name));
    } catch (error) {
      unlinkSync(staged);
      throw error;
    }
    this.files++;
  }

  #link(folder: number, name: string, target: string): void {
    const staged = inside(folder, `.chorus-${randomBytes(8).toString("hex")}.part`);
    symlinkSync(Buffer.from(target, "latin1"), staged);
    try {
      renameSync(staged, inside(folder, name));
    } catch (error) {
      unlinkSync(staged);
      throw error;
    }
    this.files++;
  }

  /** Counts what entries say they hold, holes and refused ones included: no archive is longer than the disk has room. */
  #announce(size: number): void {
    this.#announced += size;
    this.#limit ??= this.#room();
    if (this.#announced > this.#limit) throw noRoom();
  }

  /** Counts what was written; looks at the disk now and then, which others fill as well. */
  #wrote(bytes: number): void {
    this.#unlooked += bytes;
    if (this.#unlooked < lookEvery) return;
    this.#unlooked = 0;
    if (this.#room() <= 0) throw noRoom();
  }

  #room(): number {
    const { bavail, blocks, bsize } = statfsSync(`/proc/self/fd/${this.#root.fd}`);
    return (bavail - blocks * reserve) * bsize;
  }

  [Symbol.dispose](): void {
    this.#leave(0);
  }
}

const noRoom = () =>
  new SandboxError("LIMIT_EXCEEDED", "The host's disk has no room for it.", {
    next: "Download less of it with include and exclude, or free room on the host. Files that came before are there.",
  });

function openOrMake(parent: number, name: string, enter: Root["enter"]): number {
  let fd: number;
  try {
    fd = openFolder(parent, name);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    mkdirSync(inside(parent, name), 0o755);
    fd = openFolder(parent, name);
  }
  try {
    enter?.(fd);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function whyNot(error: unknown): string {
  const code = systemCode(error);
  switch (code) {
    case "ENOTDIR":
    case "ELOOP":
      return "a file or link stands where a folder is needed";
    case "EISDIR":
    case "ENOTEMPTY":
    case "EEXIST":
      return "a folder of that name is there";
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return "not writable";
    case "ENOSPC":
    case "EDQUOT":
      throw new SandboxError("LIMIT_EXCEEDED", "The host's disk is full.", {
        next: "Free room on the host. Files that came before are there.",
      });
    default:
      return `cannot be written (${code})`;
  }
}
