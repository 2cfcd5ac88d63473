import { z } from "zod";
import { sandboxSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { cpus, memoryMb, patch, pids, sandboxId, ttlS } from "./fields.ts";
import { sandboxText } from "./render/sandbox.ts";

export const updateSandbox = defineTool({
  name: "sandbox_update",
  title: "Change a sandbox",
  description:
    "Changes a live sandbox and returns it: extends its lease, merges labels and environment, sets limits, pauses or resumes it. " +
    "Each argument's default is to leave it unchanged. Commands that already run keep their environment. Image, profile, network and workspace size cannot change: sandbox_create makes another.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    ttl_s: ttlS.optional().describe("Seconds it lives from now, 1 to the policy's maximum."),
    idle_s: ttlS.optional().describe("Seconds unused after which it ends, 1 to the same."),
    labels: patch.optional().describe("To set; null removes one."),
    env: patch.optional().describe("For later commands; null removes one."),
    cpus: cpus.optional().describe("Cores, 0.05 to the policy's maximum."),
    memory_mb: memoryMb.optional().describe("MiB, 16 to the policy's maximum."),
    pids: pids.optional().describe("Processes, 64 to the policy's maximum."),
    paused: z
      .boolean()
      .optional()
      .describe("true stops every process in place, false lets them go on; the lease runs."),
  }),
  output: sandboxSchema,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, ...changes }, { sandboxes, call }) => sandboxes.update(sandbox_id, changes, call),
  render: sandboxText,
});
