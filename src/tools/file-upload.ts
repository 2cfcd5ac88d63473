import { z } from "zod";
import { fileTransferSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { exclude, filePath, hostPath, include, sandboxId } from "./fields.ts";
import { fileTransferText } from "./render/file-changes.ts";

export const uploadFiles = defineTool({
  name: "file_upload",
  title: "Upload from the host",
  description:
    "Copies a file or folder of any size from a host folder the operator opened into a sandbox; merges and overwrites. file_write takes content from the call.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    host_path: hostPath,
    path: filePath.describe("Name it gets."),
    include,
    exclude,
  }),
  output: fileTransferSchema,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileUpload(sandbox_id, request, call),
  render: (result, { path }) => fileTransferText(result, path),
});
