import { z } from "zod";
import { execSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { smallerExec } from "./exec-smaller.ts";
import { execId, maxOutputBytes, sandboxId, until, untilMatch, waitS } from "./fields.ts";
import { execText } from "./render/exec.ts";

const offset = (stream: string) =>
  z
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .default(0)
    .describe(`Byte of ${stream} to read from, 0 up; ${stream}_next of an answer reads on. Default 0.`);

export const readExecOutput = defineTool({
  name: "exec_output",
  title: "Read a command's output",
  description:
    "Returns state and output of a command that exec_run started, from the given offsets, and waits if asked. " +
    "Also works after it ended, while its output is kept. Starts nothing and ends nothing: exec_kill does that.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    exec_id: execId,
    stdout_offset: offset("stdout"),
    stderr_offset: offset("stderr"),
    tail_lines: z.int().min(1).max(10_000).optional().describe("Only so many last lines of each stream."),
    match: z.string().min(1).max(1024).optional().describe("RE2: only lines that match, with a line of context."),
    until,
    until_match: untilMatch,
    wait_s: waitS(0, "Seconds to wait."),
    max_output_bytes: maxOutputBytes,
  }),
  output: execSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, exec_id, ...request }, { sandboxes, call }) =>
    sandboxes.execOutput(sandbox_id, exec_id, request, call),
  less: ({ sandbox_id, exec_id: _, ...request }, first, share, context) =>
    smallerExec(sandbox_id, first, request, share, context),
  render: (exec, { sandbox_id, match }) => execText(exec, sandbox_id, { searched: match !== undefined }),
});
