import type { FileListResult, FileReadResult, FileWriteResult } from "../../sandbox/views.ts";
import { next } from "./sandbox.ts";
import { bytes, fenced, lines, name, notes, table, time, toolCall, visible } from "./text.ts";

/** Headline, the content verbatim, and which call reads the rest. */
export function fileReadText(file: FileReadResult, sandboxId: string): string {
  const shown = file.line_start !== undefined && file.line_end !== undefined && file.line_end >= file.line_start;
  const whole = file.next_line === undefined && file.next_offset === undefined && !file.omitted;
  const headline = [
    name(file.path, 4096),
    bytes(file.size_bytes),
    shown &&
      `lines ${file.line_start}–${file.line_end}${file.total_lines === undefined ? "" : ` of ${file.total_lines}`}`,
    file.encoding === "base64" && "base64",
    `mode ${visible(file.mode, 16)}`,
    `etag ${visible(file.etag, 128)}`,
    whole && file.encoding === "utf8" && file.content !== "" && !file.content.endsWith("\n") && "no newline at the end",
  ].filter((part) => part !== false);
  return lines(
    headline.join(" · "),
    file.content === "" ? "empty" : fenced(file.content),
    !whole && rest(file, sandboxId),
    notes(file.notes),
  );
}

function rest(file: FileReadResult, sandboxId: string): string {
  const call = { sandbox_id: sandboxId, path: file.path };
  if (file.next_line !== undefined) return `more: ${toolCall("file_read", { ...call, line_start: file.next_line })}`;
  if (file.next_offset !== undefined) return `more: ${toolCall("file_read", { ...call, offset: file.next_offset })}`;
  return "Something of what was asked for was left out, see the notes.";
}

export const fileWriteText = (result: FileWriteResult): string =>
  table(
    result.files.map((file) => [
      file.created ? "created" : "replaced",
      bytes(file.size_bytes),
      `etag ${visible(file.etag, 128)}`,
      name(file.path, 4096),
    ]),
  );

const mark = { file: "", dir: "/", symlink: "", fifo: "|", socket: "=", device: "" } as const;

export function fileListText(list: FileListResult): string {
  const rows = list.entries.map((entry) => [
    entry.type,
    visible(entry.mode, 16),
    entry.type === "dir" ? "" : bytes(entry.size_bytes),
    time(entry.modified_at),
    `${name(entry.path, 4096)}${mark[entry.type]}${entry.target === undefined ? "" : ` -> ${name(entry.target, 4096)}`}`,
  ]);
  return lines(rows.length === 0 ? "no entries" : table(rows), next(list.next_cursor));
}
