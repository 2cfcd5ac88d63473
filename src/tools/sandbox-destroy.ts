import { z } from "zod";
import { destroyedSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { sandboxId } from "./fields.ts";
import { destroyedText } from "./render/sandbox.ts";

export const destroySandbox = defineTool({
  name: "sandbox_destroy",
  title: "Destroy a sandbox",
  description:
    "Ends a sandbox, every process in it and all its files, for good. Returns whether it had already ended; calling it again is harmless. " +
    "Saves nothing: file_read gets files out before. sandbox_update with paused: true only stops it for a while.",
  input: z.strictObject({ sandbox_id: sandboxId }),
  output: destroyedSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id }, { sandboxes, call }) => sandboxes.destroy(sandbox_id, call),
  render: destroyedText,
});
