// @ts-check
/** The first line of an MCP client of the 2025 era, for those that want no more than an answer to it. */
export const INITIALIZE = `${JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "first-line", version: "1" } },
})}\n`;
