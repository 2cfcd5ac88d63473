import { EventEmitter, once } from "node:events";
import { PassThrough } from "node:stream";
import { type McpServerOptions, serve } from "../../../src/server/index.ts";
import type { Reply } from "../../support/mcp-process.ts";

export const _meta = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientInfo": { name: "t", version: "1" },
  "io.modelcontextprotocol/clientCapabilities": {},
};

/** A server in this process, spoken to in lines. */
export function inProcess(options: McpServerOptions, start = serve) {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const serving = start({ ...options, input, output });
  const lines: Reply[] = [];
  const arrivals = new EventEmitter();
  output.on("data", (chunk) => {
    for (const line of String(chunk).trim().split("\n")) lines.push(JSON.parse(line));
    arrivals.emit("line");
  });
  const until = async (found: () => unknown): Promise<void> => {
    while (!found()) await once(arrivals, "line");
  };
  const send = (message: object) => input.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const request = async (id: number, method: string, params: object) => {
    send({ id, method, params: { ...params, _meta } });
    await until(() => lines.some((line) => line.id === id));
    return lines.find((line) => line.id === id);
  };
  return { serving, input, lines, until, send, request };
}
