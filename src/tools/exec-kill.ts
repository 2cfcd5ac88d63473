import { z } from "zod";
import { execSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { smallerExec } from "./exec-smaller.ts";
import { execId, sandboxId } from "./fields.ts";
import { execText } from "./render/exec.ts";

const signals = ["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT"] as const;

export const killExec = defineTool({
  name: "exec_kill",
  title: "Kill a command",
  description:
    "Signals a command and everything it started, also what outlived it, and returns its state and output. " +
    "What has not ended grace_s after a TERM, INT, HUP or QUIT is killed; other signals are only sent. Leaves the rest of the sandbox alone: sandbox_destroy ends all of it.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    exec_id: execId,
    signal: z.enum(signals).default("TERM").describe("Default TERM."),
    grace_s: z.number().min(0).max(30).default(2).describe("Seconds to wait before KILL. 0–30, default 2."),
  }),
  output: execSchema,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  handle: ({ sandbox_id, exec_id, ...request }, { sandboxes, call }) =>
    sandboxes.execKill(sandbox_id, exec_id, request, call),
  less: ({ sandbox_id }, first, share, context) => smallerExec(sandbox_id, first, {}, share, context),
  render: (exec, { sandbox_id }) => execText(exec, sandbox_id),
});
