import type { FileEditResult, FileManageResult, FileTransferResult } from "../../sandbox/views.ts";
import { bytes, fenced, lines, name, visible } from "./text.ts";

const counted = (count: number, one: string, more: string): string => `${count} ${count === 1 ? one : more}`;

export const fileEditText = (result: FileEditResult, path: string): string =>
  lines(
    `${name(path, 4096)} · ${counted(result.replacements, "replacement", "replacements")} · etag ${visible(result.etag, 128)}`,
    result.diff === "" ? "no difference" : fenced(result.diff),
  );

const done = { mkdir: "made", move: "moved", copy: "copied", delete: "deleted" } as const;

export const fileManageText = (result: FileManageResult, { op }: { op: keyof typeof done }): string =>
  `${name(result.path, 4096)} · ${counted(result.entries, "entry", "entries")} ${done[op]}`;

export function fileTransferText(result: FileTransferResult, to: string): string {
  const refused = result.refused.length + (result.refused_omitted ?? 0);
  return lines(
    `${name(to, 4096)} · ${counted(result.files, "file", "files")} · ${bytes(result.bytes)}`,
    refused > 0 && `${refused} passed over:`,
    ...result.refused.map(({ path, why }) => `  ${name(path, 1024)}: ${visible(why, 300)}`),
    result.refused_omitted !== undefined && `  and ${result.refused_omitted} more`,
  );
}
