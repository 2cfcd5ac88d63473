import {
  type CallToolRequest,
  type CallToolResult,
  CLIENT_INFO_META_KEY,
  ProtocolError,
  ProtocolErrorCode,
  type Server,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { closest } from "../closest.ts";
import { quoted, SandboxError } from "../errors.ts";
import type { Call, Sandboxes } from "../sandbox/api.ts";
import { isObject } from "../tools/coerce.ts";
import { toolsByName } from "../tools/registry.ts";
import { visible } from "../tools/render/text.ts";
import { startProgress } from "./progress.ts";

/** The part of a pino logger that the server uses. */
export interface Log {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What every call of one connection has in common. */
export interface Connection {
  server: Server;
  /** Set before the SDK aborts what is under way: a lost connection is no cancellation. */
  closed: boolean;
  folder: string;
  tenant: string;
  sandboxes: () => Promise<Sandboxes>;
  logger: Log;
}

/** Answers tools/call: errors of ours are results, an unknown tool is the protocol's error. */
export async function callTool(
  request: CallToolRequest,
  ctx: ServerContext,
  connection: Connection,
): Promise<CallToolResult> {
  const { name } = request.params;
  const tool = toolsByName.get(name);
  if (tool === undefined) throw unknownTool(name);
  const started = performance.now();
  const signal = cancellation(ctx, connection);
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
    const answer = await orAborted(tool.run(request.params.arguments, call, connection.sandboxes), signal);
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

/** Who asks, for a tool or a resource. `stop` ends its progress. */
export function toCall(
  ctx: ServerContext,
  connection: Connection,
  signal: AbortSignal,
): { call: Call; stop: () => void } {
  const { traceparent, progressToken } = ctx.mcpReq._meta ?? {};
  const call: Call = { signal, client: clientOf(ctx, connection.server), folder: connection.folder };
  if (typeof traceparent === "string" && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)) {
    call.traceparent = traceparent;
  }
  if (progressToken === undefined) return { call, stop: () => {} };
  const progress = startProgress((count, message) => {
    // A client that left hears nothing; the call itself goes on.
    ctx.mcpReq
      .notify({ method: "notifications/progress", params: { progressToken, progress: count, message } })
      .catch(() => {});
  });
  call.progress = progress.report;
  return { call, stop: progress.stop };
}

/** `name/version`: in the envelope of each request, or from the handshake of a 2025-era client. */
function clientOf(ctx: ServerContext, server: Server): string {
  const envelope: Record<string, unknown> = { ...ctx.mcpReq.envelope };
  const info = envelope[CLIENT_INFO_META_KEY] ?? server.getClientVersion();
  if (!isObject(info)) return "unknown";
  const { name, version } = info;
  return typeof name === "string" ? visible(`${name}/${String(version)}`, 120) : "unknown";
}

/** Aborts when the client cancels, and never because the connection was lost. */
export function cancellation(ctx: ServerContext, connection: Connection): AbortSignal {
  const controller = new AbortController();
  ctx.mcpReq.signal.addEventListener(
    "abort",
    () => {
      if (!connection.closed) controller.abort(new DOMException("The client cancelled the call.", "AbortError"));
    },
    { once: true },
  );
  return controller.signal;
}

/** The work's outcome, or ABORTED as soon as the client cancels, however long the work takes to notice. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
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
    const abort = (): void => reject(new SandboxError("ABORTED", "The call was cancelled."));
    signal.addEventListener("abort", abort, { once: true });
    stop = () => signal.removeEventListener("abort", abort);
  });
  return { promise, stop };
}
