import { closeSync, mkdirSync } from "node:fs";
import { posix } from "node:path";
import { hasCode, quoted, SandboxError } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import { PolicyDenied } from "./admission.ts";
import type { Call, FileTransferRequest } from "./api.ts";
import { agent, recordDenial, trace } from "./caller.ts";
import type { Core } from "./core.ts";
import type { Guest } from "./guest/types.ts";
import { archiveFile, archiveFolder, type Tally } from "./host/archive.ts";
import { inside, openFolder } from "./host/descriptors.ts";
import { pathRules } from "./host/ignore.ts";
import { Landing } from "./host/landing.ts";
import { Refusals, toBytes } from "./host/names.ts";
import { TarReader } from "./host/tar-reader.ts";
import { type HostDir, type HostPlace, hostFailure, openHostDir, reach } from "./host-dirs.ts";
import { isTerminal, requireInside, requireRunning } from "./lifecycle.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { FileTransferResult } from "./views.ts";

const mostRefusedBytes = 40 * 1024;
/** Patterns of a download travel in a request's head. */
const mostPatternBytes = 40 * 1024;

/** Files between the operator's open folders and sandboxes, as streams of bounded memory. */
export class Transfers {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  async upload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    checkPatterns(request);
    this.#core.store.requireRoom();
    const result = await this.#guarded(record, request, call, async (dirs) => {
      const place = reach(dirs, request.host_path, "read");
      try {
        return await this.#send(record, place, request, call);
      } finally {
        place.close();
      }
    });
    await this.#tell(record, "upload", request, result, call);
    return result;
  }

  async download(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    checkPatterns(request);
    this.#core.store.requireRoom();
    const { path, include = [], exclude = [], host_path } = request;
    const result = await this.#guarded(record, request, call, async (dirs) => {
      openHostDir(dirs, host_path, "write");
      const use = <T>(work: (guest: Guest) => Promise<T>, repeatable: boolean) =>
        withGuest(this.#core, record.sandbox_id, call.signal, work, { repeatable });
      // Nothing is made on the host for what is not in the sandbox.
      const isFolder = await use((guest) => leadsToFolder(guest, path, call.signal), true);
      const place = reach(dirs, host_path, "write");
      try {
        return await use((guest) => {
          const refusals = new Refusals();
          const leftOut = (path: string, why: string) => refusals.add(toBytes(path), why);
          const archive = guest.getTar({ path, include, exclude }, leftOut, call.signal);
          return land(place, isFolder, archive, refusals, call);
        }, false);
      } finally {
        place.close();
      }
    });
    await this.#tell(record, "download", request, result, call);
    return result;
  }

  async #send(record: SandboxRecord, place: HostPlace, request: FileTransferRequest, call: Call) {
    if (place.kind === "missing") throw Object.assign(new Error("missing"), { code: "ENOENT" });
    const { path, include, exclude = [] } = request;
    const tally: Tally = { files: 0, bytes: 0, refusals: new Refusals() };
    const single = place.kind === "file";
    const name = posix.basename(path);
    if (single && (name === "" || name === "." || name === "..")) {
      throw new SandboxError("INVALID_ARGUMENT", "`path` must end with the name the file gets.");
    }
    const source = single
      ? archiveFile(place, toBytes(name), tally)
      : archiveFolder(
          place.fd,
          { include: include?.length ? pathRules(include) : undefined, exclude: pathRules(exclude) },
          tally,
        );
    const put = (guest: Guest) => {
      const told = counted(source, () => report(call, tally.files, tally.bytes));
      return guest.putTar(single ? posix.dirname(path) : path, told, call.signal);
    };
    const taken = await withGuest(this.#core, record.sandbox_id, call.signal, put, { repeatable: false });
    const refused = [...tally.refusals.list, ...taken.refused];
    if (single && taken.files === 0) {
      throw new SandboxError("FILE_INVALID", `It was not taken: ${quoted(refused[0]?.why ?? "no reason given")}.`, {
        next: "`path` is the name the file gets, and `host_path` must be a readable file or folder.",
      });
    }
    return transferred(taken.files, taken.bytes, refused, tally.refusals.total + taken.refused_total);
  }

  /** Failures of the host's file system become ours, and refusals by the policy are told. */
  async #guarded(
    record: SandboxRecord,
    { host_path }: FileTransferRequest,
    call: Call,
    work: (dirs: readonly HostDir[]) => Promise<FileTransferResult>,
  ): Promise<FileTransferResult> {
    const dirs = this.#core.hostDirs;
    try {
      return await work(dirs);
    } catch (thrown) {
      const error = hostFailure(thrown, host_path, dirs);
      if (error instanceof PolicyDenied) await recordDenial(this.#core, error, call, record.sandbox_id);
      throw error;
    }
  }

  async #tell(
    { sandbox_id }: SandboxRecord,
    direction: "upload" | "download",
    { host_path, path }: FileTransferRequest,
    { files, bytes, refused, refused_omitted = 0 }: FileTransferResult,
    call: Call,
  ): Promise<void> {
    await this.#core.store.write(
      (tx) => {
        const record = tx.sandbox(sandbox_id);
        // The terminal event is the last one of a sandbox.
        if (!record || isTerminal(record.state)) return;
        tx.putSandbox({ ...record, last_used_at: new Date().toISOString() });
        tx.emit(sandbox_id, {
          type: "file.transferred",
          data: { direction, host_path, path, files, bytes, refused: refused.length + refused_omitted },
          actor: agent(call),
          ...trace(call),
        });
      },
      { necessary: true },
    );
  }
}

/** Takes an archive of a sandbox to its place on the host. */
async function land(
  place: HostPlace,
  isFolder: boolean,
  archive: AsyncIterable<Buffer>,
  refusals: Refusals,
  call: Call,
): Promise<FileTransferResult> {
  const reader = new TarReader(archive);
  const target = isFolder ? folderAt(place) : undefined;
  const landing = new Landing({ fd: target?.fd ?? place.fd, enter: place.enter }, refusals);
  try {
    if (!isFolder && place.kind === "folder") {
      throw new SandboxError("FILE_CONFLICT", "On the host, a folder is where the file should go.", {
        next: "`host_path` is the name the file gets.",
      });
    }
    const progress = () => report(call, landing.files, landing.bytes);
    if (isFolder) await landing.take(reader, progress);
    else await landing.takeFile(reader, place.name, progress);
    return transferred(landing.files, landing.bytes, refusals.list, refusals.total);
  } finally {
    await reader.close();
    landing[Symbol.dispose]();
    if (target?.mine) closeSync(target.fd);
  }
}

/** The open folder at a place, made if it is missing. */
function folderAt({ kind, fd, name, enter }: HostPlace): { fd: number; mine: boolean } {
  if (kind === "folder") return { fd, mine: false };
  if (kind === "file") {
    throw new SandboxError("FILE_CONFLICT", "On the host, a file is where the folder should go.", {
      next: "`host_path` is the name the folder gets; give another one.",
    });
  }
  mkdirSync(inside(fd, name), 0o755);
  const made = openFolder(fd, name);
  enter(made);
  return { fd: made, mine: true };
}

/** Whether a path in a sandbox is a folder, or a link to one. */
async function leadsToFolder(guest: Guest, path: string, signal: AbortSignal): Promise<boolean> {
  const { type } = await guest.stat(path, signal);
  if (type !== "symlink") return type === "dir";
  return guest.stat(`${path}/.`, signal).then(
    () => true,
    (error: unknown) => {
      if (hasCode(error, "FILE_INVALID")) return false;
      throw error;
    },
  );
}

async function* counted(source: AsyncIterable<Buffer>, onPiece: () => void): AsyncGenerator<Buffer> {
  for await (const piece of source) {
    yield piece;
    onPiece();
  }
}

const report = (call: Call, files: number, bytes: number): void =>
  call.progress?.(`${files} files, ${(bytes / 2 ** 20).toFixed(1)} MiB`);

function transferred(
  files: number,
  bytes: number,
  all: readonly { path: string; why: string }[],
  total: number,
): FileTransferResult {
  let room = mostRefusedBytes;
  const refused = all.slice(0, 200).filter((one) => {
    room -= Buffer.byteLength(JSON.stringify(one)) + 1;
    return room > 0;
  });
  const omitted = total - refused.length;
  return { files, bytes, refused, ...(omitted > 0 && { refused_omitted: omitted }) };
}

function checkPatterns({ path, include = [], exclude = [] }: FileTransferRequest): void {
  const bytes = [path, ...include, ...exclude].reduce((sum, text) => sum + encodeURIComponent(text).length + 9, 0);
  if (bytes <= mostPatternBytes) return;
  throw new SandboxError(
    "INVALID_ARGUMENT",
    `include and exclude are too long: ${bytes} bytes of ${mostPatternBytes}.`,
  );
}
