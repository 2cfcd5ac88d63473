import { CLIENT_INFO_META_KEY, type Server, type ServerContext } from "@modelcontextprotocol/server";
import type { Call, Sandboxes } from "../sandbox/api.ts";
import { isObject } from "../tools/coerce.ts";
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

/** Aborts when the client cancels, and never because the connection was lost. Asked for at once: later it cannot tell the two apart. */
export function cancellation(ctx: ServerContext, connection: Connection): AbortSignal {
  const controller = new AbortController();
  const { signal } = ctx.mcpReq;
  const onAbort = (): void => {
    if (!connection.closed) controller.abort(new DOMException("The client cancelled the call.", "AbortError"));
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return controller.signal;
}
