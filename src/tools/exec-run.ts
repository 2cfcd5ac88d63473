import { z } from "zod";
import { execSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { smallerExec } from "./exec-smaller.ts";
import { labels, maxOutputBytes, sandboxId, ttySize, until, untilMatch, waitS } from "./fields.ts";
import { execText } from "./render/exec.ts";

const input = z.strictObject({
  sandbox_id: sandboxId,
  command: z.string().min(1).max(1_048_576).optional().describe("Shell line. Exactly one of command and argv."),
  argv: z
    .array(z.string().max(1_048_576))
    .min(1)
    .max(4096)
    .optional()
    .describe("Program and arguments, without a shell; 1–4096. Exactly one of command and argv."),
  cwd: z
    .string()
    .min(1)
    .max(4096)
    .optional()
    .describe("Folder to start in; cd does not carry over. Default the workdir."),
  env: labels.optional().describe("Added for this command. Default none."),
  stdin: z.string().optional().describe("Text for standard input, which then ends. Default empty."),
  keep_stdin: z.boolean().default(false).describe("Leaves stdin open for exec_input. Default false."),
  tty_rows: ttySize.optional().describe("Rows of a terminal to run in. Default none; 24 with tty_cols."),
  tty_cols: ttySize.optional().describe("Its columns. Default 80."),
  merge_stderr: z.boolean().default(false).describe("true puts stderr into stdout, in order. Default false."),
  until,
  until_match: untilMatch,
  wait_s: waitS(30, "Seconds to wait, 0: in the background. Not done by then: status running, it goes on."),
  timeout_s: z
    .number()
    .min(0.1)
    .max(2_592_000)
    .optional()
    .describe("Seconds until it and its children are killed, 0.1 to 2592000. Default: the sandbox's remaining life."),
  max_output_bytes: maxOutputBytes,
});

export const runExec = defineTool({
  name: "exec_run",
  title: "Run a command",
  description:
    "Runs a command in a sandbox and returns exit code, stdout and stderr. A non-zero exit, a time-out and cut output are results, not errors. " +
    "Long output keeps head and tail; exec_output reads the rest, and follows a command that still runs; exec_input types into it. " +
    "file_write and file_read handle file contents without quoting.",
  input: input.refine((args) => (args.command === undefined) !== (args.argv === undefined), {
    error: "exactly one of command (a shell line) and argv (program and arguments) is needed",
    when: ({ value }) => typeof value === "object" && value !== null,
  }),
  output: execSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: "network" },
  handle: ({ sandbox_id, ...request }, { sandboxes, call }) => sandboxes.execRun(sandbox_id, request, call),
  less: ({ sandbox_id, max_output_bytes }, first, share, context) =>
    smallerExec(sandbox_id, first, { max_output_bytes }, share, context),
  render: (exec, { sandbox_id }) => execText(exec, sandbox_id),
});
