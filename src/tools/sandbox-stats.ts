import { z } from "zod";
import { statsSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { sandboxId } from "./fields.ts";
import { statsText } from "./render/stats.ts";

export const sandboxStats = defineTool({
  name: "sandbox_stats",
  title: "Measure a sandbox",
  description:
    "Measures now what a sandbox consumes: cpu, memory, processes, workspace, network, disk, commands. What its runtime cannot tell is null and named in notes. " +
    "Does not count as use of it. sandbox_get has its limits and lease.",
  input: z.strictObject({ sandbox_id: sandboxId }),
  output: statsSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id }, { sandboxes, call }) => sandboxes.stats(sandbox_id, call),
  render: statsText,
});
