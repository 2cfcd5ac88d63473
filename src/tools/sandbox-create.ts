import { z } from "zod";
import { sandboxSchema } from "../sandbox/views.ts";
import { defineTool } from "./define-tool.ts";
import { cpus, labels, memoryMb, pids, ttlS, waitS } from "./fields.ts";
import { sandboxText } from "./render/sandbox.ts";

export const createSandbox = defineTool({
  name: "sandbox_create",
  title: "Create a sandbox",
  description:
    "Makes an isolated Linux sandbox and returns it once it is usable: id, image, programs found in it, limits, lease. " +
    "It has its own processes, a writable /workspace and /tmp, and by default no network. It ends by itself after ttl_s, or after idle_s without use. " +
    "Runs nothing in it: that is exec_run. sandbox_list finds the ones that already exist.",
  input: z.strictObject({
    image: z
      .string()
      .min(1)
      .max(512)
      .optional()
      .describe("Container image. Default: the server's, with Python, Node, git, gcc."),
    name: z
      .string()
      .min(1)
      .max(64)
      .optional()
      .describe("Usable in place of the id, unique among live ones. Default none."),
    labels: labels.optional().describe("To find it by in sandbox_list. Default none."),
    env: labels.optional().describe("Environment of every command. Default none."),
    profile: z
      .enum(["strict", "dev"])
      .optional()
      .describe("strict: unprivileged user, read-only root. dev: root inside, if the policy allows. Default strict."),
    cpus: cpus.optional().describe("Cores, 0.05 to the policy's maximum. Default 1."),
    memory_mb: memoryMb.optional().describe("MiB, 16 to the policy's maximum (usually 4096). Default 512."),
    pids: pids.optional().describe("Processes at once, 64 to the policy's maximum (usually 4096). Default 256."),
    workspace_mb: z
      .int()
      .min(1)
      .max(1_048_576)
      .optional()
      .describe("MiB, 1 to the policy's maximum (usually 4096). Default 512."),
    network: z
      .enum(["none", "allowlist", "open"])
      .optional()
      .describe("none: 127.0.0.1 only; others if the policy allows. Default none."),
    allow: z
      .array(z.string().min(1).max(255))
      .max(200)
      .optional()
      .describe("Hosts for network allowlist. Default none."),
    ttl_s: ttlS.optional().describe("Seconds it lives, 1 to the policy's maximum (usually 86400). Default 3600."),
    idle_s: ttlS
      .optional()
      .describe("Seconds unused after which it ends; running commands are use. 1 to the same maximum, default 900."),
    request_id: z
      .string()
      .min(1)
      .max(128)
      .optional()
      .describe("The same one again returns the same sandbox. Default none."),
    wait_s: waitS(30, "Seconds to wait; then state is creating, it goes on, and sandbox_get waits more."),
  }),
  output: sandboxSchema,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  handle: (args, { sandboxes, call }) => sandboxes.create(args, call),
  render: sandboxText,
});
