import {
  type ListResourcesResult,
  type ListResourceTemplatesResult,
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  ResourceNotFoundError,
} from "@modelcontextprotocol/server";
import { SandboxError } from "../errors.ts";
import type { Call, Sandboxes } from "../sandbox/api.ts";
import { visible } from "../tools/render/text.ts";
import { execStreamOf, execTemplate, readExecStream } from "./exec-resource.ts";
import { fileOf, fileTemplate, readFileResource } from "./file-resource.ts";
import type { PolicyView } from "./instructions.ts";

export const latestEvents = "sandbox-events://latest";
const template = "sandbox://{sandbox_id}";
const json = "application/json";

const fixed: ListResourcesResult["resources"] = [
  {
    uri: latestEvents,
    name: "latest-events",
    title: "Latest events",
    description: "The newest events of all sandboxes.",
    mimeType: json,
  },
  {
    uri: "schema://events",
    name: "event-schemas",
    title: "Event schemas",
    description: "JSON Schema of every event on NATS.",
    mimeType: json,
  },
  {
    uri: "policy://effective",
    name: "policy",
    title: "Policy in force",
    description: "What the operator allows sandboxes.",
    mimeType: json,
  },
];

export interface ResourceSources {
  policyView: PolicyView;
  eventSchemas: () => unknown;
}

export const resourceTemplates: ListResourceTemplatesResult = {
  resourceTemplates: [
    {
      uriTemplate: template,
      name: "sandbox",
      title: "Sandbox",
      description: "State, limits and lease of one sandbox.",
      mimeType: json,
    },
    execTemplate,
    fileTemplate,
  ],
};

/** The fixed resources, and the live sandboxes once something was asked of them: clients list resources merely to probe. */
export async function listResources(opened: Sandboxes | undefined, call: Call): Promise<ListResourcesResult> {
  if (opened === undefined) return { resources: fixed };
  const { sandboxes } = await opened.list({ limit: 50 }, call).catch(protocolError);
  const live = sandboxes.map((row) => ({
    uri: `sandbox://${row.sandbox_id}`,
    name: row.sandbox_id,
    title: row.name === undefined ? row.sandbox_id : visible(row.name, 128),
    description: `${row.state}, image ${visible(row.image, 200)}`,
    mimeType: json,
  }));
  return { resources: [...fixed, ...live] };
}

export async function readResource(
  uri: string,
  sandboxes: () => Promise<Sandboxes>,
  call: Call,
  sources: ResourceSources,
): Promise<ReadResourceResult> {
  const output = execStreamOf(uri);
  if (output !== undefined) {
    const read = async () => readExecStream(output, await sandboxes(), call);
    const text = await read().catch((error: unknown) => protocolError(error, uri));
    return { contents: [{ uri, mimeType: "text/plain", text }] };
  }
  const file = fileOf(uri);
  if (file !== undefined) {
    const read = async () => readFileResource(uri, file, await sandboxes(), call);
    return { contents: await read().catch((error: unknown) => protocolError(error, uri)) };
  }
  const content = await contentOf(uri, sandboxes, call, sources).catch((error: unknown) => protocolError(error, uri));
  return { contents: [{ uri, mimeType: json, text: JSON.stringify(content) }] };
}

async function contentOf(
  uri: string,
  sandboxes: () => Promise<Sandboxes>,
  call: Call,
  sources: ResourceSources,
): Promise<unknown> {
  if (uri === "policy://effective") return sources.policyView;
  if (uri === "schema://events") return sources.eventSchemas();
  if (uri === latestEvents) return (await sandboxes()).events({ wait_s: 0 }, call);
  const id = sandboxOf(uri);
  if (id === undefined) throw new ResourceNotFoundError(uri);
  return (await sandboxes()).get(id, { wait_s: 0 }, call);
}

/** Id or name in `sandbox://…`; undefined for any other URI. */
export function sandboxOf(uri: string): string | undefined {
  const [, text] = /^sandbox:\/\/([^/?#]{1,384})$/.exec(uri) ?? [];
  if (text === undefined) return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

const missing: ReadonlySet<string> = new Set(["SANDBOX_NOT_FOUND", "EXEC_NOT_FOUND", "FILE_NOT_FOUND"]);

/** Resources have no error results: the code goes into the protocol's error. */
export function protocolError(thrown: unknown, uri?: string): never {
  if (thrown instanceof ProtocolError) throw thrown;
  const { code, message, retryable, next } = SandboxError.from(thrown);
  if (missing.has(code) && uri !== undefined) throw new ResourceNotFoundError(uri, `${code}: ${message}`);
  throw new ProtocolError(ProtocolErrorCode.InternalError, `${code}: ${message}`, { code, retryable, next });
}
