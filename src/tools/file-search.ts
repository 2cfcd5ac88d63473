import { z } from "zod";
import { fileSearchSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { filePath, limit, sandboxId } from "./fields.ts";
import { fileSearchText } from "./render/file-search.ts";

export const searchFiles = defineTool({
  name: "file_search",
  title: "Search in files",
  description:
    "Finds lines that match a pattern in a sandbox's files. Skips binary files, .git and what .gitignore excludes. file_list finds files by name.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    pattern: z.string().min(1).max(1024).describe("RE2."),
    path: filePath.optional().describe("Folder or file. Default the workdir."),
    glob: z.string().min(1).max(1024).optional().describe('Only such paths: "**/*.py". Default all.'),
    ignore_case: z.boolean().default(false).describe("Default false."),
    context: z.int().min(0).max(5).default(0).describe("Lines around each, 0–5, default 0."),
    limit: limit(500, 100),
  }),
  output: fileSearchSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileSearch(sandbox_id, request, call),
  less: ({ sandbox_id, ...request }, { matches }, share, { sandboxes, call }) =>
    sandboxes.fileSearch(sandbox_id, { ...request, limit: Math.max(1, Math.floor(matches.length * share)) }, call),
  render: fileSearchText,
});
