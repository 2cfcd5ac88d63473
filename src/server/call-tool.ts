import {
  type CallToolRequest,
  type CallToolResult,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { closest } from "../closest.ts";
import { givenUp, quoted, SandboxError } from "../errors.ts";
import { toolsByName } from "../tools/registry.ts";
import { type Connection, toCall } from "./call.ts";

/** Answers tools/call: errors of ours are results, an unknown tool is the protocol's error. */
export async function callTool(
  request: CallToolRequest,
  ctx: ServerContext,
  connection: Connection,
  signal: AbortSignal,
): Promise<CallToolResult> {
  const { name } = request.params;
  const tool = toolsByName.get(name);
  if (tool === undefined) throw unknownTool(name);
  const started = performance.now();
  const { call, stop } = toCall(ctx, connection, signal);
  const log = (fields: object): void => {
    connection.logger.debug(
      {
        tool: name,
        tenant: connection.tenant,
        client: call.client,
        ms: Math.round((performance.now() - started) * 10) / 10,
        ...fields,
      },
      "tool call",
    );
  };
  try {
    const answer = await orAborted(() => tool.run(request.params.arguments, call, connection.sandboxes), signal);
    log({ ok: true });
    return { content: [{ type: "text", text: answer.text }], structuredContent: answer.structuredContent };
  } catch (thrown) {
    const error = SandboxError.from(thrown);
    log({ ok: false, code: error.code });
    if (error.code === "INTERNAL")
      connection.logger.error({ tool: name, err: error.cause ?? error }, "tool call failed unexpectedly");
    return errorResult(error);
  } finally {
    stop();
  }
}

export function errorResult({ code, message, retryable, next }: SandboxError): CallToolResult {
  return {
    isError: true,
    content: [{ type: "text", text: `${code}: ${message}\nNext: ${next}` }],
    _meta: { "dev.chorus/error": { code, message, retryable, next } },
  };
}

function unknownTool(name: string): ProtocolError {
  const names = [...toolsByName.keys()];
  const meant = closest(name, names);
  const hint = meant === undefined ? "" : ` (did you mean ${meant}?)`;
  return new ProtocolError(
    ProtocolErrorCode.InvalidParams,
    `Unknown tool ${quoted(name, 64)}${hint} Tools: ${names.join(", ")}`,
  );
}

/** The work's outcome, or ABORTED as soon as the client cancels, however long the work takes to notice; what was cancelled before is not begun. */
async function orAborted<T>(begin: () => Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw givenUp(signal.reason);
  const work = begin();
  const { promise: aborted, stop } = abortOf(signal);
  try {
    return await Promise.race([work, aborted]);
  } finally {
    stop();
    // Once nobody waits for it, its failure is no news.
    work.catch(() => {});
  }
}

function abortOf(signal: AbortSignal): { promise: Promise<never>; stop: () => void } {
  let stop = (): void => {};
  const promise = new Promise<never>((_, reject) => {
    const abort = (): void => reject(givenUp(signal.reason));
    signal.addEventListener("abort", abort, { once: true });
    stop = () => signal.removeEventListener("abort", abort);
  });
  return { promise, stop };
}
