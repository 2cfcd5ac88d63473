import { z } from "zod";
import { sandboxStates } from "../sandbox/events.ts";
import { sandboxListSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { cursor, labels, limit } from "./fields.ts";
import { sandboxListText } from "./render/sandbox.ts";

export const listSandboxes = defineTool({
  name: "sandbox_list",
  title: "List sandboxes",
  description:
    "Lists sandboxes as short rows, newest first: id, name, state, image, labels, time left, last command. " +
    "here: true finds the ones made from this client and folder, also after a restart. Does not count as use of them. sandbox_get has all of one.",
  input: z.strictObject({
    labels: labels.optional().describe("Only those that have all these labels. Default any."),
    state: z.enum(sandboxStates).optional().describe("Only those in this state. Default any that is live."),
    here: z.boolean().default(false).describe("Only those made from this client and folder. Default false."),
    include_ended: z.boolean().default(false).describe("Also those that ended in the last 7 days. Default false."),
    limit: limit(200, 50),
    cursor: cursor.optional(),
  }),
  output: sandboxListSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: (args, { sandboxes, call }) => sandboxes.list(args, call),
  less: (args, _result, share, { sandboxes, call }) =>
    sandboxes.list({ ...args, limit: Math.max(1, Math.floor(args.limit * share)) }, call),
  render: sandboxListText,
});
