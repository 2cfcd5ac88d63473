import { z } from "zod";
import { execInputSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { execId, sandboxId, ttySize } from "./fields.ts";
import { inputText } from "./render/exec.ts";

export const writeExecInput = defineTool({
  name: "exec_input",
  title: "Type into a command",
  description:
    "Types into a running command that exec_run started with keep_stdin or tty_rows; exec_output reads its answer. " +
    "Returns how much it took: less than given if it did not read for 10 s.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    exec_id: execId,
    data: z.string().optional().describe("Text; no newline is added."),
    data_base64: z.string().optional().describe("Bytes, instead of data."),
    eof: z.boolean().default(false).describe("Ends stdin after the data; ^D at a terminal. Default false."),
    tty_rows: ttySize.optional().describe("New size, with tty_cols."),
    tty_cols: ttySize.optional().describe("New size, with tty_rows."),
  }),
  output: execInputSchema,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, exec_id, ...request }, { sandboxes, call }) =>
    sandboxes.execInput(sandbox_id, exec_id, request, call),
  render: inputText,
});
