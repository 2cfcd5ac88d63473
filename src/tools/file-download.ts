import { z } from "zod";
import { fileTransferSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { exclude, filePath, hostPath, include, sandboxId } from "./fields.ts";
import { fileTransferText } from "./render/file-changes.ts";

export const downloadFiles = defineTool({
  name: "file_download",
  title: "Download to the host",
  description:
    "Copies a file or folder of any size from a sandbox to a host folder the operator opened for writing; merges and overwrites. file_read returns content.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    host_path: hostPath.describe("Absolute name it gets."),
    path: filePath,
    include,
    exclude,
  }),
  output: fileTransferSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.fileDownload(sandbox_id, request, call),
  render: (result, { host_path }) => fileTransferText(result, host_path),
});
