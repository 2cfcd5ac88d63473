import { quoted, SandboxError } from "../errors.ts";
import { findSandbox, withGuest } from "./access.ts";
import type {
  Call,
  FileEditRequest,
  FileListRequest,
  FileManageRequest,
  FileReadRequestView,
  FileSearchRequest,
  FileTransferRequest,
  FileWriteRequest,
} from "./api.ts";
import { bytesOfBase64 } from "./base64.ts";
import type { Core } from "./core.ts";
import { editFile } from "./file-edit.ts";
import { changeOnce, writeOnce } from "./file-once.ts";
import { fileReadResult } from "./file-read-result.ts";
import { Transfers } from "./file-transfer.ts";
import type { FileToWrite } from "./guest/types.ts";
import { lastFacts } from "./ingest.ts";
import { requireInside, requireRunning } from "./lifecycle.ts";
import type {
  FileEditResult,
  FileListResult,
  FileManageResult,
  FileReadResult,
  FileSearchResult,
  FileTransferResult,
  FileWriteResult,
} from "./views.ts";

const maxWriteBytes = 8 * 2 ** 20;
const defaultReadBytes = 32 * 1024;
const mostDepth = 64;
const defaultEntries = 200;
const defaultMatches = 100;

const stoppedNote = {
  time: "The search took too long and stopped: narrow it with path or glob.",
  size: "The search read as much as one search may and stopped: narrow it with path or glob.",
};

/** Reading and writing files through the guest. */
export class Files {
  readonly #core: Core;
  readonly #transfers: Transfers;
  /** Sandboxes whose files this process changed. */
  readonly #changed = new Set<string>();

  constructor(core: Core) {
    this.#core = core;
    this.#transfers = new Transfers(core);
  }

  async read(sandbox: string, request: FileReadRequestView, call: Call): Promise<FileReadResult> {
    if (request.offset !== undefined && (request.line_start !== undefined || request.line_end !== undefined)) {
      throw new SandboxError(
        "INVALID_ARGUMENT",
        "Give lines (`line_start`, `line_end`) or bytes (`offset`), not both.",
      );
    }
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    const byBytes = request.offset !== undefined || request.encoding === "base64";
    const encoding = request.encoding ?? "utf8";
    const answer = await withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      (guest) =>
        guest.readFile(
          {
            path: request.path,
            max_bytes: request.max_bytes ?? defaultReadBytes,
            ...(byBytes
              ? { offset: request.offset ?? 0 }
              : {
                  line_start: request.line_start ?? 1,
                  ...(request.line_end !== undefined && { line_end: request.line_end }),
                }),
          },
          call.signal,
        ),
      { repeatable: true },
    );
    return fileReadResult(request, answer, encoding);
  }

  async write(sandbox: string, files: FileWriteRequest[], call: Call): Promise<FileWriteResult> {
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    this.#core.store.requireRoom();
    const toWrite = files.map(decode);
    const total = toWrite.reduce((sum, file) => sum + file.bytes.length, 0);
    if (total > maxWriteBytes) {
      throw new SandboxError("LIMIT_EXCEEDED", `The files hold ${total} bytes; one call takes ${maxWriteBytes}.`, {
        next: "Write them in several calls, or create the data inside the sandbox with exec_run.",
      });
    }
    this.#changed.add(record.sandbox_id);
    return { files: await writeOnce(this.#core, record, toWrite, call) };
  }

  async list(sandbox: string, request: FileListRequest, call: Call): Promise<FileListResult> {
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    const { entries, next_cursor } = await withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      (guest) =>
        guest.listFiles(
          {
            path: request.path ?? ".",
            // Who asks for "**" means all the way down.
            depth: request.depth ?? (request.glob?.includes("**") ? mostDepth : 1),
            limit: request.limit ?? defaultEntries,
            ...(request.glob !== undefined && { glob: request.glob }),
            ...(request.cursor !== undefined && { cursor: request.cursor }),
          },
          call.signal,
        ),
      { repeatable: true },
    );
    return {
      entries: entries.map(({ path, type, size_bytes, mode, modified_at, target }) => ({
        path,
        type,
        size_bytes,
        mode,
        modified_at,
        ...(target !== undefined && { target }),
      })),
      ...(next_cursor !== undefined && { next_cursor }),
    };
  }

  async edit(sandbox: string, request: FileEditRequest, call: Call): Promise<FileEditResult> {
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    this.#core.store.requireRoom();
    this.#changed.add(record.sandbox_id);
    return editFile(this.#core, record, request, call);
  }

  async search(sandbox: string, request: FileSearchRequest, call: Call): Promise<FileSearchResult> {
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    const { pattern, path = ".", glob, ignore_case, context, limit = defaultMatches } = request;
    const search = {
      ...{ pattern, path, limit },
      ...(glob !== undefined && { glob }),
      ...(ignore_case !== undefined && { ignore_case }),
      ...(context !== undefined && { context }),
    };
    const { stopped, ...found } = await withGuest(
      this.#core,
      record.sandbox_id,
      call.signal,
      (guest) => guest.searchFiles(search, call.signal),
      { repeatable: true },
    );
    return stopped === undefined ? found : { ...found, notes: [stoppedNote[stopped]] };
  }

  async manage(sandbox: string, request: FileManageRequest, call: Call): Promise<FileManageResult> {
    const record = findSandbox(this.#core, sandbox);
    requireRunning(record);
    this.#core.store.requireRoom();
    const { op, path, dest, recursive } = request;
    if ((dest !== undefined) !== (op === "move" || op === "copy")) {
      throw new SandboxError("INVALID_ARGUMENT", "`dest` is for move and copy, which need it.");
    }
    const manage = { op, path, ...(dest !== undefined && { dest }), ...(recursive !== undefined && { recursive }) };
    this.#changed.add(record.sandbox_id);
    return changeOnce(this.#core, record, call, `the ${op} was done`, (guest, tell) =>
      guest.manageFiles(manage, tell, call.signal),
    );
  }

  upload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    return this.#transfers.upload(sandbox, request, call);
  }

  download(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    return this.#transfers.download(sandbox, request, call);
  }

  /** Tells what this process changed before it goes; what it does not get to, the next one finds at the guest. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#changed].map((sandboxId) => lastFacts(this.#core, sandboxId)));
  }
}

function decode(file: FileWriteRequest): FileToWrite {
  const bytes = file.encoding === "base64" ? bytesOfBase64(file.content) : Buffer.from(file.content);
  if (bytes === undefined) {
    throw new SandboxError("INVALID_ARGUMENT", `The content for ${quoted(file.path)} is not valid base64.`);
  }
  return {
    path: file.path,
    bytes,
    ...(file.mode !== undefined && { mode: file.mode }),
    ...(file.if_match !== undefined && { if_match: file.if_match }),
  };
}
