import { z } from "zod";
import { execSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { execId, maxOutputBytes, sandboxId, waitS } from "./fields.ts";
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
    "Returns state and output of a command that exec_run started, from the given offsets, and waits for its end or for new output if asked. " +
    "Also works after it ended, while its output is kept. Starts nothing and ends nothing: exec_kill does that.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    exec_id: execId,
    stdout_offset: offset("stdout"),
    stderr_offset: offset("stderr"),
    until: z
      .enum(["exit", "output"])
      .default("exit")
      .describe("What wait_s waits for: exit, or any output past the offsets. Default exit."),
    wait_s: waitS(0, "Seconds to wait."),
    max_output_bytes: maxOutputBytes,
  }),
  output: execSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, exec_id, ...request }, { sandboxes, call }) =>
    sandboxes.execOutput(sandbox_id, exec_id, request, call),
  less: ({ sandbox_id, exec_id, ...request }, _result, share, { sandboxes, call }) => {
    const max_output_bytes = Math.max(256, Math.floor(request.max_output_bytes * share));
    return sandboxes.execOutput(sandbox_id, exec_id, { ...request, max_output_bytes, wait_s: 0 }, call);
  },
  render: (exec, { sandbox_id }) => execText(exec, sandbox_id),
});
