import { z } from "zod";
import { fileReadSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { filePath, sandboxId } from "./fields.ts";
import { fileReadText } from "./render/files.ts";

const line = z.int().min(1).max(1_000_000_000);

export const readFile = defineTool({
  name: "file_read",
  title: "Read a file",
  description:
    "Returns the content of one file in a sandbox, by lines or from a byte offset, with size, mode and the etag that file_write's if_match takes. " +
    "Longer files come in parts; the answer says where to read on. Not for folders: file_list shows those.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    path: filePath,
    line_start: line.optional().describe("First line, from 1. Default 1. Not together with offset."),
    line_end: line.optional().describe("Last line, included, from 1. Default as many as fit."),
    offset: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe("Byte to read from, 0 up. Default: by lines."),
    max_bytes: z
      .int()
      .min(1)
      .max(262_144)
      .default(32_768)
      .describe("Most content in this answer, 1–262144, default 32768."),
    encoding: z.enum(["utf8", "base64"]).default("utf8").describe("base64 for binary files. Default utf8."),
    line_numbers: z.boolean().default(false).describe("true puts its number before each line. Default false."),
  }),
  output: fileReadSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileRead(sandbox_id, request, call),
  less: ({ sandbox_id, ...request }, _result, share, { sandboxes, call }) =>
    sandboxes.fileRead(sandbox_id, { ...request, max_bytes: Math.max(1, Math.floor(request.max_bytes * share)) }, call),
  // Who asks for more than the usual answer gets it, JSON's escapes and base64 included.
  maxBytes: ({ max_bytes }) => Math.max(65_536, Math.ceil(max_bytes * 1.4)),
  render: (file, { sandbox_id }) => fileReadText(file, sandbox_id),
});
