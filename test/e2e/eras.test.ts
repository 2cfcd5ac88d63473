import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { CallToolResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { expect, it } from "vitest";
import { busybox, root } from "../support/server.ts";

it("a 2025-era client does the main job through the configuration of mcp.json's command", async () => {
  const dir = mkdtempSync(path.join(tmpdir(), "chorus-era-"));
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [path.join(root, "dist/main.js")],
    cwd: root,
    stderr: "ignore",
    env: {
      ...Object.fromEntries(
        Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
      ),
      CHORUS_SANDBOX_DATA_DIR: path.join(dir, "data"),
      CHORUS_SANDBOX_IMAGE: busybox,
      NATS_URL: "",
    },
  });
  const client = new Client({ name: "old", version: "1.0.0" });
  await client.connect(transport);
  const call = async (name: string, args: Record<string, unknown>) =>
    CallToolResultSchema.parse(await client.callTool({ name, arguments: args }));
  try {
    expect(client.getInstructions()).toContain("sandbox_list");
    const { tools } = await client.listTools();
    expect(tools.map((tool) => tool.name)).toContain("exec_run");

    const created = await call("sandbox_create", { name: "era" });
    expect(created.structuredContent).toMatchObject({ state: "running", origin: { client: "old/1.0.0" } });
    const exec = await call("exec_run", { sandbox_id: "era", command: "echo from the old era" });
    expect(exec.structuredContent).toMatchObject({ stdout: "from the old era\n", exit_code: 0 });
    await call("file_write", { sandbox_id: "era", files: [{ path: "x", content: "y" }] });
    expect((await call("file_read", { sandbox_id: "era", path: "x" })).structuredContent).toMatchObject({
      content: "y",
    });
    expect((await call("sandbox_stats", { sandbox_id: "era" })).structuredContent).toMatchObject({
      pids: { limit: 256 },
    });
    // Errors reach it as text, past its check of structured content against the output schema.
    const refused = await call("file_read", { sandbox_id: "era", path: "missing" });
    expect(refused.isError).toBe(true);
    expect(refused.content[0]).toMatchObject({
      type: "text",
      text: expect.stringMatching(/^FILE_NOT_FOUND: .*\nNext: /),
    });

    const { contents } = await client.readResource({ uri: `sandbox://era` });
    expect(JSON.stringify(contents)).toContain("running");
    expect((await call("sandbox_destroy", { sandbox_id: "era" })).structuredContent).toMatchObject({ destroyed: true });
  } finally {
    await client.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
