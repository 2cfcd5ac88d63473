import type { FileReadRequestView } from "./api.ts";
import type { FileReadAnswer } from "./guest/types.ts";
import type { FileReadResult } from "./views.ts";

/** Pure: what the guest read, as agents see it. */
export function fileReadResult(
  request: FileReadRequestView,
  answer: FileReadAnswer,
  encoding: "utf8" | "base64",
): FileReadResult {
  const { file, bytes } = answer;
  const notes: string[] = [];
  if (answer.cut_lines > 0)
    notes.push(`${answer.cut_lines} line(s) longer than 2000 characters were cut; read by \`offset\` for all of them.`);
  const text =
    encoding === "utf8" ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) : bytes.toString("base64");
  if (encoding === "utf8" && text.includes("\ufffd") && !isUtf8(bytes)) {
    notes.push('Not all of it is UTF-8: such bytes are shown as U+FFFD. Use encoding "base64" for the exact bytes.');
  }
  const numbered = request.line_numbers === true && encoding === "utf8" && answer.line_start !== undefined;
  return {
    path: request.path,
    content: numbered ? numberLines(text, answer.line_start ?? 1) : text,
    encoding,
    size_bytes: file.size_bytes,
    mode: file.mode,
    etag: file.etag,
    ...(answer.line_start !== undefined && { line_start: answer.line_start }),
    ...(answer.line_end !== undefined && { line_end: answer.line_end }),
    ...(answer.total_lines !== undefined && { total_lines: answer.total_lines }),
    ...(answer.next_line !== undefined && { next_line: answer.next_line }),
    ...(answer.next_offset !== undefined && { next_offset: answer.next_offset }),
    omitted: answer.omitted,
    ...(notes.length > 0 && { notes }),
  };
}

function isUtf8(bytes: Buffer): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function numberLines(text: string, first: number): string {
  const lines = text.split("\n");
  const end = text.endsWith("\n") ? lines.length - 1 : lines.length;
  return lines.map((line, i) => (i < end ? `${String(first + i).padStart(6)}\t${line}` : line)).join("\n");
}
