import { z } from "zod";
import { fileWriteSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { filePath, ifMatch, sandboxId } from "./fields.ts";
import { fileWriteText } from "./render/files.ts";

const file = z.strictObject({
  path: filePath,
  content: z.string().describe("The whole new content."),
  encoding: z.enum(["utf8", "base64"]).default("utf8").describe("How content is given. Default utf8."),
  mode: z
    .string()
    .regex(/^[0-7]{3,4}$/)
    .optional()
    .describe('Octal mode such as "0755". Default 0644, or as it was.'),
  if_match: ifMatch,
});

export const writeFiles = defineTool({
  name: "file_write",
  title: "Write files",
  description:
    "Writes whole files in a sandbox and returns size and etag of each; missing parent folders are made. " +
    "All are checked before any is written, and each is replaced at once, never seen half written. Does not append; file_edit changes parts, file_manage deletes.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    files: z.array(file).min(1).max(200).describe("1–200 files, together at most 8 MiB."),
  }),
  output: fileWriteSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, files }, { sandboxes, call }) => sandboxes.fileWrite(sandbox_id, files, call),
  // Up to 200 paths of 4 KiB come back: what was asked for, not what a guest made longer.
  maxBytes: () => 8 * 1024 * 1024,
  render: fileWriteText,
});
