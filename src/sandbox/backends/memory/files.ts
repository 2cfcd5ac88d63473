import { posix } from "node:path";
import { Fault } from "./fault.ts";
import { globToRegExp } from "./glob.ts";

export const workdir = "/workspace";
const writable = [workdir, "/tmp"];
const maxLineChars = 2000;

interface Entry {
  /** undefined: a folder. */
  bytes: Buffer | undefined;
  mode: string;
  modifiedAt: string;
  version: number;
}

export interface FileToWrite {
  path: string;
  bytes: Buffer;
  mode?: string;
  if_match?: string;
}

/** Files and folders in a map by absolute path. */
export class FakeFiles {
  readonly #entries = new Map<string, Entry>();
  #version = 0;

  constructor() {
    for (const folder of ["/", ...writable]) this.#put(folder, undefined, "0755");
  }

  get usedBytes(): number {
    return [...this.#entries.values()].reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);
  }

  resolve(path: string): string {
    if (path === "" || path.includes("\0")) throw new Fault("INVALID_ARGUMENT", "path is empty or has a NUL");
    return posix.resolve(workdir, path);
  }

  /** Content of a regular file, or undefined when there is nothing of that name. */
  contents(path: string): Buffer | undefined {
    return this.#entries.get(this.resolve(path))?.bytes;
  }

  stat(path: string, shown = path) {
    const { bytes, mode, modifiedAt, version } = this.#entry(path);
    return {
      path: shown,
      type: bytes === undefined ? "dir" : "file",
      size_bytes: bytes?.length ?? 0,
      mode,
      modified_at: modifiedAt,
      etag: `v${version}`,
    };
  }

  read(request: { path: string; offset?: number; line_start?: number; line_end?: number; max_bytes: number }) {
    const { bytes } = this.#entry(request.path);
    if (bytes === undefined) throw new Fault("FILE_INVALID", `${request.path} is a directory`, { kind: "dir" });
    const file = this.stat(request.path);
    if (request.line_start === undefined && request.line_end === undefined) {
      const offset = Math.min(request.offset ?? 0, bytes.length);
      const content = bytes.subarray(offset, offset + request.max_bytes);
      const end = offset + content.length;
      const more = end < bytes.length;
      const header = { file, offset, len: content.length, omitted: more, cut_lines: 0 };
      return { header: { ...header, ...(more && { next_offset: end }) }, content };
    }
    return { ...readLines(file, bytes, request.line_start ?? 1, request.line_end, request.max_bytes) };
  }

  /** All are checked before any is written. */
  write(files: readonly FileToWrite[]) {
    for (const { path, if_match } of files) {
      const at = this.resolve(path);
      const entry = this.#entries.get(at);
      if (entry && entry.bytes === undefined)
        throw new Fault("FILE_INVALID", `${path} is a directory`, { kind: "dir" });
      this.#refuseReadOnly(path, at);
      for (let up = posix.dirname(at); up !== "/"; up = posix.dirname(up)) {
        if (this.#entries.get(up)?.bytes)
          throw new Fault("FILE_INVALID", `${up} is not a directory`, { kind: "not_dir" });
      }
      if (if_match !== undefined && if_match !== (entry ? `v${entry.version}` : "")) {
        throw new Fault("FILE_CONFLICT", `${path} is not as expected`);
      }
    }
    return files.map(({ path, bytes, mode }) => {
      const at = this.resolve(path);
      const before = this.#entries.get(at);
      for (let up = posix.dirname(at); !this.#entries.has(up); up = posix.dirname(up)) this.#put(up, undefined, "0755");
      const { version } = this.#put(at, bytes, mode ?? before?.mode ?? "0644");
      return { path, size_bytes: bytes.length, etag: `v${version}`, created: before === undefined };
    });
  }

  list(request: { path: string; depth: number; glob?: string; limit: number; cursor?: string }) {
    const root = this.resolve(request.path);
    if (this.#entry(request.path).bytes !== undefined) return { entries: [this.stat(request.path)] };
    const base = root === "/" ? "/" : `${root}/`;
    const glob = request.glob === undefined ? undefined : globToRegExp(request.glob);
    const after = request.cursor === undefined ? "" : Buffer.from(request.cursor, "base64url").toString();
    const names = [...this.#entries.keys()]
      .filter((path) => path.startsWith(base) && path !== base)
      .map((path) => path.slice(base.length))
      .filter((name) => name.split("/").length <= request.depth && (glob?.test(name) ?? true))
      .filter((name) => after === "" || Buffer.compare(Buffer.from(name), Buffer.from(after)) > 0)
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const entries = names.slice(0, request.limit).map((name) => this.stat(base + name, name));
    const last = names[request.limit - 1];
    const more = names.length > request.limit && last !== undefined;
    return { entries, ...(more && { next_cursor: Buffer.from(last).toString("base64url") }) };
  }

  /** Everything at a path and below it, parents first, by absolute path. */
  below(path: string): { at: string; bytes: Buffer | undefined; mode: string }[] {
    this.#entry(path);
    const root = this.resolve(path);
    return [...this.#entries]
      .filter(([at]) => at === root || at.startsWith(root === "/" ? "/" : `${root}/`))
      .map(([at, { bytes, mode }]) => ({ at, bytes, mode }))
      .sort((a, b) => (a.at < b.at ? -1 : 1));
  }

  has(path: string): boolean {
    return this.#entries.has(this.resolve(path));
  }

  /** Makes a folder and its parents; counts those that were missing. */
  makeFolder(path: string, mode = "0755"): number {
    const at = this.resolve(path);
    this.#refuseReadOnly(path, at);
    const entry = this.#entries.get(at);
    if (entry?.bytes !== undefined) throw new Fault("FILE_CONFLICT", `${path} is a file`);
    if (entry !== undefined) return 0;
    const parents = this.makeFolder(posix.dirname(at));
    this.#put(at, undefined, mode);
    return parents + 1;
  }

  remove(at: string): void {
    this.#entries.delete(at);
  }

  #refuseReadOnly(path: string, at: string): void {
    if (!writable.some((folder) => at === folder || at.startsWith(`${folder}/`))) {
      throw new Fault("PERMISSION_DENIED", `${path}: read-only file system`);
    }
  }

  #entry(path: string): Entry {
    const entry = this.#entries.get(this.resolve(path));
    if (entry === undefined) throw new Fault("FILE_NOT_FOUND", `${path}: no such file or directory`);
    return entry;
  }

  #put(path: string, bytes: Buffer | undefined, mode: string): Entry {
    const entry = { bytes, mode, modifiedAt: new Date().toISOString(), version: ++this.#version };
    this.#entries.set(path, entry);
    return entry;
  }
}

/** Lines are 1-based and inclusive, cut at 2000 characters; whole lines up to the bound. */
function readLines(file: unknown, bytes: Buffer, start: number, end: number | undefined, maxBytes: number) {
  const text = bytes.toString();
  const lines = text.split(/(?<=\n)/).filter((line) => line !== "");
  if (start > Math.max(lines.length, 1)) throw new Fault("INVALID_ARGUMENT", `the file has ${lines.length} lines`);
  const offset = Buffer.byteLength(lines.slice(0, start - 1).join(""));
  const taken: string[] = [];
  let size = 0;
  let cut = 0;
  for (const line of lines.slice(start - 1, end)) {
    const short = line.length > maxLineChars + 1 ? `${line.slice(0, maxLineChars)}\n` : line;
    if (size + Buffer.byteLength(short) > maxBytes) break;
    if (short !== line) cut += 1;
    size += Buffer.byteLength(short);
    taken.push(short);
  }
  const content = Buffer.from(taken.join(""));
  const last = start + taken.length - 1;
  const omitted = last < Math.min(end ?? lines.length, lines.length) || cut > 0;
  const header = {
    ...{ file, offset, len: content.length, line_start: start, line_end: Math.max(last, 0), total_lines: lines.length },
    ...(last < lines.length && { next_line: last + 1 }),
    ...{ omitted, cut_lines: cut },
  };
  return { header, content };
}
