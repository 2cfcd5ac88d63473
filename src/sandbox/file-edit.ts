import { hasCode, quoted, SandboxError } from "../errors.ts";
import { withGuest } from "./access.ts";
import type { Call, FileEditRequest } from "./api.ts";
import type { Core } from "./core.ts";
import { unifiedDiff } from "./edit/diff.ts";
import { planEdits } from "./edit/plan.ts";
import { writeOnce } from "./file-once.ts";
import type { Guest } from "./guest/types.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { FileEditResult } from "./views.ts";

const mostBytes = 8 * 2 ** 20;
const pieceBytes = 4 * 2 ** 20;
const byteOrderMark = "\ufeff";

/** Reads, plans, and writes only over what was read; the file that changed meanwhile is read once more. */
export async function editFile(
  core: Core,
  record: SandboxRecord,
  request: FileEditRequest,
  call: Call,
): Promise<FileEditResult> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await editOnce(core, record, request, call);
    } catch (error) {
      const changed = hasCode(error, "FILE_CONFLICT");
      if (!changed || attempt > 0 || request.if_match !== undefined) throw error;
    }
  }
}

async function editOnce(core: Core, record: SandboxRecord, { path, edits, if_match }: FileEditRequest, call: Call) {
  const read = (guest: Guest) => readWhole(guest, path, call.signal);
  const { bytes, etag } = await withGuest(core, record.sandbox_id, call.signal, read, { repeatable: true });
  if (if_match !== undefined && if_match !== etag) throw conflict(path);
  const { mark, text } = decode(path, bytes);
  const plan = planEdits(text, edits, mostBytes);
  const after = Buffer.from(mark + plan.text);
  if (after.length > mostBytes) throw tooLarge(path, after.length);
  const [written] = await writeOnce(core, record, [{ path, bytes: after, if_match: etag }], call, "edit");
  return {
    etag: written?.etag ?? "",
    replacements: plan.replacements,
    diff: unifiedDiff(text, plan.text, plan.regions),
  };
}

async function readWhole(guest: Guest, path: string, signal: AbortSignal): Promise<{ bytes: Buffer; etag: string }> {
  const pieces: Buffer[] = [];
  let etag: string | undefined;
  let size = 0;
  for (let offset: number | undefined = 0; offset !== undefined; ) {
    const piece = await guest.readFile({ path, offset, max_bytes: pieceBytes }, signal);
    if (piece.file.size_bytes > mostBytes) throw tooLarge(path, piece.file.size_bytes);
    etag ??= piece.file.etag;
    size += piece.bytes.length;
    if (piece.file.etag !== etag || piece.offset !== offset || size > mostBytes) throw conflict(path);
    pieces.push(piece.bytes);
    offset = piece.bytes.length === 0 ? undefined : piece.next_offset;
  }
  return { bytes: Buffer.concat(pieces), etag: etag ?? "" };
}

function decode(path: string, bytes: Buffer): { mark: string; text: string } {
  if (bytes.includes(0)) throw notText(path, "binary: it has NUL bytes");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw notText(path, "not UTF-8");
  }
  return text.startsWith(byteOrderMark) ? { mark: byteOrderMark, text: text.slice(1) } : { mark: "", text };
}

const notText = (path: string, why: string) =>
  new SandboxError("FILE_INVALID", `${quoted(path)} cannot be edited as text: it is ${why}.`, {
    next: "Use file_write with encoding base64, or a program in the sandbox through exec_run.",
  });

const conflict = (path: string) =>
  new SandboxError("FILE_CONFLICT", `${quoted(path)} is not as it was read: it has another etag.`);

const tooLarge = (path: string, size: number) =>
  new SandboxError("LIMIT_EXCEEDED", `${quoted(path)} has ${size} bytes; file_edit takes up to ${mostBytes}.`, {
    next: "Change it with a program in the sandbox through exec_run.",
  });
