import { z } from "zod";
import { fileManageSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { filePath, sandboxId } from "./fields.ts";
import { fileManageText } from "./render/file-changes.ts";

export const manageFiles = defineTool({
  name: "file_manage",
  title: "Make, move, copy or delete files",
  description:
    "Makes a folder, or moves, copies or deletes a file, link or folder in a sandbox; missing parents are made. file_write makes files.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    op: z.enum(["mkdir", "move", "copy", "delete"]).describe("What to do."),
    path: filePath,
    dest: filePath.optional().describe("New name, for move and copy."),
    recursive: z.boolean().default(false).describe("To copy folders, delete full ones. Default false."),
  }),
  output: fileManageSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileManage(sandbox_id, request, call),
  render: fileManageText,
});
