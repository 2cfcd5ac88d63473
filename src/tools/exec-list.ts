import { z } from "zod";
import { execRowSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { sandboxId } from "./fields.ts";
import { execRowsText } from "./render/exec.ts";
import { lines } from "./render/text.ts";

export const listExecs = defineTool({
  name: "exec_list",
  title: "List commands",
  description:
    "Lists the commands run in a sandbox, the running ones included: id, command, status, exit code, bytes of output. " +
    "Has no output text: exec_output reads that. Does not count as use of the sandbox.",
  input: z.strictObject({ sandbox_id: sandboxId }),
  output: z.object({
    execs: z.array(execRowSchema),
    omitted: z.int().min(1).max(1e9).optional().describe("Ended commands, oldest first, that did not fit"),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id }, { sandboxes, call }) => sandboxes.execList(sandbox_id, call),
  less: async (_args, { execs, omitted = 0 }, share) => {
    const keep = Math.max(1, Math.floor((execs.length + omitted) * share));
    const running = execs.filter((exec) => exec.status === "running");
    const ended = execs
      .filter((exec) => exec.status !== "running")
      .sort((a, b) => b.started_at.localeCompare(a.started_at));
    const kept = new Set([...running, ...ended].slice(0, keep));
    return { execs: execs.filter((exec) => kept.has(exec)), omitted: omitted + execs.length - kept.size };
  },
  render: ({ execs, omitted }) => lines(execRowsText(execs), omitted !== undefined && `${omitted} older ones left out`),
});
