import { posix } from "node:path";
import { Fault } from "./fault.ts";
import { type FakeFiles, workdir } from "./files.ts";
import { globToRegExp } from "./glob.ts";

export interface ManageRequest {
  op: "mkdir" | "move" | "copy" | "delete";
  path: string;
  dest?: string;
  recursive?: boolean;
}

/** Makes, moves, copies and deletes. A folder that moves is one entry. */
export function manage(files: FakeFiles, { op, path, dest, recursive = false }: ManageRequest) {
  if ((dest !== undefined) !== (op === "move" || op === "copy"))
    throw new Fault("INVALID_ARGUMENT", "dest is for move and copy, which need it");
  if (op === "mkdir") return { path, entries: files.makeFolder(path) };
  const from = files.resolve(path);
  if (op !== "copy" && (from === workdir || from === "/")) throw new Fault("PERMISSION_DENIED", `${path} stays`);
  const all = files.below(path);
  const isFolder = all[0]?.bytes === undefined;
  const full = isFolder && all.length > 1;
  if (!recursive && ((op === "copy" && isFolder) || (op === "delete" && full)))
    throw new Fault("FILE_INVALID", `${path} needs recursive`, { kind: "needs_recursive" });
  if (dest !== undefined) put(files, all, from, dest);
  if (op !== "copy") for (const { at } of all) files.remove(at);
  return { path: dest ?? path, entries: op === "move" ? 1 : all.length };
}

function put(files: FakeFiles, all: ReturnType<FakeFiles["below"]>, from: string, dest: string): void {
  const to = files.resolve(dest);
  if (files.has(dest) && files.stat(dest).type === "dir") throw new Fault("FILE_CONFLICT", `${dest} is a directory`);
  if (to.startsWith(`${from}/`)) throw new Fault("INVALID_ARGUMENT", `${dest} is within`);
  files.makeFolder(posix.dirname(to));
  for (const { at, bytes, mode } of all) {
    const target = to + at.slice(from.length);
    if (bytes === undefined) files.makeFolder(target, mode);
    else files.write([{ path: target, bytes, mode }]);
  }
}

export interface SearchRequest {
  pattern: string;
  path?: string;
  glob?: string;
  ignore_case?: boolean;
  context?: number;
  limit?: number;
}

/** Lines that match, without regard to .gitignore. */
export function search(files: FakeFiles, request: SearchRequest) {
  const { path = ".", glob, context = 0, limit = 100 } = request;
  const pattern = compile(request.pattern, request.ignore_case === true);
  const wanted = glob === undefined ? undefined : globToRegExp(glob);
  const root = files.resolve(path);
  const found: { path: string; line: number; text: string; before?: string[]; after?: string[] }[] = [];
  let searched = 0;
  for (const { at, bytes } of files.below(path)) {
    const name = at === root ? posix.basename(at) : at.slice(root === "/" ? 1 : root.length + 1);
    if (bytes === undefined || bytes.subarray(0, 8192).includes(0) || wanted?.test(name) === false) continue;
    searched += 1;
    const lines = bytes.toString().replace(/\n$/, "").split("\n");
    for (const [i, text] of lines.entries()) {
      if (!pattern.test(text)) continue;
      const before = lines.slice(Math.max(0, i - context), i);
      const after = lines.slice(i + 1, i + 1 + context);
      found.push({
        path: name,
        line: i + 1,
        text,
        ...(before[0] !== undefined && { before }),
        ...(after[0] !== undefined && { after }),
      });
    }
  }
  return { matches: found.slice(0, limit), omitted: Math.max(0, found.length - limit), files_searched: searched };
}

function compile(pattern: string, ignoreCase: boolean): RegExp {
  try {
    return new RegExp(pattern, ignoreCase ? "i" : "");
  } catch {
    throw new Fault("INVALID_ARGUMENT", "the pattern does not compile");
  }
}
