import { z } from "zod";
import { fileListSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { cursor, filePath, limit, sandboxId } from "./fields.ts";
import { fileListText } from "./render/files.ts";

export const listFiles = defineTool({
  name: "file_list",
  title: "List files",
  description:
    "Lists what is in a folder of a sandbox, or one file: path, type, size, mode, time of change, target of links. Links are not followed. " +
    "Has no contents: file_read returns those.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    path: filePath.optional().describe("Folder or file, absolute or relative to the workdir. Default the workdir."),
    depth: z.int().min(1).max(64).optional().describe('Levels of folders to go down. Default 1, with "**" in glob 64.'),
    glob: z.string().min(1).max(1024).optional().describe('Only paths that match, such as "**/*.py". Default all.'),
    limit: limit(1000, 200),
    cursor: cursor.optional(),
  }),
  output: fileListSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileList(sandbox_id, request, call),
  less: ({ sandbox_id, ...request }, _result, share, { sandboxes, call }) =>
    sandboxes.fileList(sandbox_id, { ...request, limit: Math.max(1, Math.floor(request.limit * share)) }, call),
  render: fileListText,
});
