import { posix } from "node:path";
import { Fault } from "./fault.ts";
import type { FakeFiles } from "./files.ts";

/** Tar streams as far as they hold files and folders with names of up to 100 bytes, or GNU's longer ones. */

const block = 512;
const padded = (size: number): number => Math.ceil(size / block) * block;

export function extract(files: FakeFiles, path: string, archive: Buffer) {
  const refused: { path: string; why: string }[] = [];
  let count = 0;
  let sum = 0;
  let long: string | undefined;
  files.makeFolder(path);
  for (let at = 0; at + block <= archive.length && archive[at] !== 0; ) {
    const text = (from: number, length: number): string => {
      const field = archive.subarray(at + from, at + from + length);
      const end = field.indexOf(0);
      return field.subarray(0, end < 0 ? length : end).toString();
    };
    const mode = (Number.parseInt(text(100, 8), 8) & 0o777).toString(8).padStart(4, "0");
    const size = Number.parseInt(text(124, 12), 8);
    const flag = text(156, 1);
    const name = long ?? text(0, 100);
    const body = archive.subarray(at + block, at + block + size);
    if (body.length < size) throw new Fault("INVALID_ARGUMENT", "the archive ends in the middle");
    at += block + padded(size);
    long = flag === "L" ? body.toString().replace(/\0$/, "") : undefined;
    if (flag === "L") continue;
    const target = posix.join(files.resolve(path), name);
    if (name.startsWith("/") || name.split("/").includes("..")) refused.push({ path: name, why: "leaves the folder" });
    else if (flag === "5") files.makeFolder(target.replace(/\/$/, ""), mode);
    else if (flag !== "0") refused.push({ path: name, why: "neither file nor folder" });
    else if (files.has(target) && files.stat(target).type === "dir")
      refused.push({ path: name, why: "a folder is there" });
    else {
      files.write([{ path: target, bytes: Buffer.from(body), mode }]);
      count += 1;
      sum += size;
    }
  }
  return { files: count, bytes: sum, refused, refused_total: refused.length };
}

/** `include` and `exclude` are taken for names of a last segment. */
export async function* archive(files: FakeFiles, path: string, include: string[], exclude: string[]) {
  const root = files.resolve(path);
  const all = files.below(path);
  const names = (list: string[], name: string): boolean => name.split("/").some((segment) => list.includes(segment));
  for (const { at, bytes, mode } of all) {
    if (at === root && bytes === undefined) continue;
    const name = at === root ? posix.basename(at) : at.slice(root.length + 1);
    if (names(exclude, name) || (include.length > 0 && !names(include, name))) continue;
    const full = bytes === undefined ? `${name}/` : name;
    const long = Buffer.from(full);
    if (long.length > 100) {
      yield header("././@LongLink", "L", long.length + 1, "0644");
      yield Buffer.concat([long, Buffer.alloc(padded(long.length + 1) - long.length)]);
    }
    yield header(full, bytes === undefined ? "5" : "0", bytes?.length ?? 0, mode);
    if (bytes !== undefined) yield Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
  }
  yield Buffer.alloc(2 * block);
}

function header(name: string, flag: string, size: number, mode: string): Buffer {
  const head = Buffer.alloc(block);
  head.write(Buffer.from(name).subarray(0, 100).toString("latin1"), "latin1");
  head.write(mode.padStart(7, "0"), 100);
  head.write(size.toString(8).padStart(11, "0"), 124);
  head.write("00000000000", 136);
  head.write(`        ${flag}`, 148);
  head.write("ustar\x0000", 257);
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return head;
}
