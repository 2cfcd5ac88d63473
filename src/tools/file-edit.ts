import { z } from "zod";
import { fileEditSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { filePath, ifMatch, sandboxId } from "./fields.ts";
import { fileEditText } from "./render/file-changes.ts";

const edit = z.strictObject({
  old_string: z.string().min(1).describe("Exact text, unique unless replace_all."),
  new_string: z.string().describe("Its replacement."),
  replace_all: z.boolean().default(false).describe("Default false."),
});

export const editFile = defineTool({
  name: "file_edit",
  title: "Edit a file",
  description:
    "Replaces text in one file of a sandbox and returns a diff. Edits apply in order, all or none; EDIT_NOT_APPLIED shows the closest text. " +
    "Keeps line ends and mode. UTF-8 to 8 MiB; file_write replaces whole files.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    path: filePath,
    edits: z.array(edit).min(1).max(100).describe("1–100."),
    if_match: ifMatch,
  }),
  output: fileEditSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileEdit(sandbox_id, request, call),
  render: (result, { path }) => fileEditText(result, path),
});
