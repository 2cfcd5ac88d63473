import type { ListToolsResult } from "@modelcontextprotocol/server";
import { tools } from "../tools/registry.ts";

const made = new Map<boolean, ListToolsResult>();

/** The answer to tools/list, computed once: whether commands can reach a network is the policy's to say. */
export function toolList(network: boolean): ListToolsResult {
  const known = made.get(network);
  if (known !== undefined) return known;
  const list: ListToolsResult = {
    tools: tools.map(({ name, title, description, inputSchema, outputSchema, annotations }) => ({
      name,
      title,
      description,
      // Both are plain JSON; the SDK's type asks for an index signature.
      inputSchema: { ...inputSchema },
      outputSchema: { ...outputSchema },
      annotations: {
        ...annotations,
        openWorldHint: annotations.openWorldHint === "network" ? network : annotations.openWorldHint,
      },
    })),
  };
  made.set(network, list);
  return list;
}
