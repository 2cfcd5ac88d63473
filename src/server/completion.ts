import type { CompleteRequest, CompleteResult } from "@modelcontextprotocol/server";
import type { Call, Sandboxes } from "../sandbox/api.ts";
import { execTemplate } from "./exec-resource.ts";
import { protocolError, resourceTemplates } from "./resources.ts";

const mostValues = 100;

const templates: ReadonlySet<string> = new Set(
  resourceTemplates.resourceTemplates.map(({ uriTemplate }) => uriTemplate),
);

/** Completes the parts of our resource templates: sandboxes by id and name, execs of the sandbox chosen before, streams. */
export async function complete(
  { params: { ref, argument, context } }: CompleteRequest,
  sandboxes: () => Promise<Sandboxes>,
  call: Call,
): Promise<CompleteResult> {
  if (ref.type !== "ref/resource" || !templates.has(ref.uri)) return beginning([], "");
  if (argument.name === "sandbox_id") return beginning(await sandboxNames(await sandboxes(), call), argument.value);
  if (ref.uri !== execTemplate.uriTemplate) return beginning([], "");
  if (argument.name === "stream") return beginning(["stdout", "stderr"], argument.value);
  const sandbox = context?.arguments?.["sandbox_id"];
  if (argument.name !== "exec_id" || sandbox === undefined) return beginning([], "");
  const { execs } = await (await sandboxes()).execList(sandbox, call).catch(protocolError);
  return beginning(
    execs.map(({ exec_id }) => exec_id),
    argument.value,
  );
}

async function sandboxNames(sandboxes: Sandboxes, call: Call): Promise<string[]> {
  const list = await sandboxes.list({ limit: 200 }, call).catch(protocolError);
  return list.sandboxes.flatMap((row) => (row.name === undefined ? [row.sandbox_id] : [row.name, row.sandbox_id]));
}

function beginning(all: readonly string[], typed: string): CompleteResult {
  const values = all.filter((value) => value.startsWith(typed));
  return {
    completion: { values: values.slice(0, mostValues), total: values.length, hasMore: values.length > mostValues },
  };
}
