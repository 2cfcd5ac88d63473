import { effectivePolicy } from "../../src/sandbox/policy.ts";
import { buildInstructions, type McpServerOptions, type PolicyView } from "../../src/server/index.ts";
import type { FakeSandboxes } from "./mcp-fake.ts";

export const policyView: PolicyView = {
  ...effectivePolicy({}, "built-in", 2),
  image: "chorus-sandbox/base",
  workdir: "/workspace",
  host_dirs: [{ path: "/data", mode: "ro" }],
};

/** What main would give the server, with a fake service; `opened` counts how often it was asked for. */
export function serverOptions(fake: FakeSandboxes, onOpen: () => void = () => {}): McpServerOptions {
  return {
    sandboxes: () => {
      onOpen();
      return fake;
    },
    policyView,
    eventSchemas: () => ({ "exec.started": { type: "object" } }),
    instructions: buildInstructions(policyView),
    logger: { debug() {}, warn() {}, error() {} },
    version: "0.0.0-test",
    folder: "/home/me",
    tenant: "default",
  };
}
