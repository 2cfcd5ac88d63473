import { z } from "zod";
import { journaledEvents } from "../sandbox/events.ts";
import { eventsSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { execId, limit, sandboxId, waitS } from "./fields.ts";
import { eventsText } from "./render/events.ts";

// Object.keys loses the literal types that z.enum keeps.
const types = Object.keys(journaledEvents) as [keyof typeof journaledEvents];

export const sandboxEvents = defineTool({
  name: "sandbox_events",
  title: "Read or await events",
  description:
    "Returns what happened to sandboxes, oldest first: lifecycle, commands, files, limits. " +
    "With after: next_cursor of the last answer, or event_cursor of any other answer, it waits for what comes next. Has no output (exec_output) and no measurements (sandbox_stats).",
  input: z.strictObject({
    sandbox_id: sandboxId.optional().describe("Only of this sandbox, id or name. Default all."),
    exec_id: execId.optional().describe("Only of this command. Default all."),
    after: z
      .string()
      .min(1)
      .max(512)
      .optional()
      .describe("start, now, or a cursor. Default: the newest ones, without waiting for more."),
    types: z.array(z.enum(types)).min(1).max(types.length).optional().describe("Only these types. Default all."),
    limit: limit(200, 20),
    wait_s: waitS(30, "Seconds to wait for the first event, when there is none yet."),
    format: z
      .enum(["compact", "cloudevents"])
      .default("compact")
      .describe("cloudevents: as published on NATS. Default compact."),
  }),
  output: eventsSchema,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handle: (args, { sandboxes, call }) => sandboxes.events(args, call),
  less: (args, _result, share, { sandboxes, call }) =>
    sandboxes.events({ ...args, limit: Math.max(1, Math.floor(args.limit * share)), wait_s: 0 }, call),
  render: eventsText,
});
