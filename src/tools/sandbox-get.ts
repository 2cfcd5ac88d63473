import { z } from "zod";
import { sandboxSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { sandboxId, waitS } from "./fields.ts";
import { sandboxText } from "./render/sandbox.ts";

export const getSandbox = defineTool({
  name: "sandbox_get",
  title: "Look at a sandbox",
  description:
    "Returns one sandbox: state, limits, lease, last command, running commands; for one that ended in the last 7 days also why, when and its last commands. " +
    "Does not count as use of it. sandbox_stats measures what it consumes.",
  input: z.strictObject({
    sandbox_id: sandboxId,
    wait_s: waitS(30, "Seconds to wait while it is still creating."),
  }),
  output: sandboxSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: ({ sandbox_id, wait_s }, { sandboxes, call }) => sandboxes.get(sandbox_id, { wait_s }, call),
  render: sandboxText,
});
