import type { Readable, Writable } from "node:stream";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { createMcpServerFactory, type McpServerOptions } from "./factory.ts";
import { StdioTransport } from "./stdio-transport.ts";

export interface ServeOptions extends McpServerOptions {
  input: Readable;
  /** The protocol's alone: see redirectConsole. */
  output: Writable;
}

export interface Serving extends AsyncDisposable {
  /** Settles when the client closed its end, or after `close`. What holds the process open is the caller's to dispose then. */
  closed: Promise<void>;
  close(): Promise<void>;
}

/** Serves MCP of both eras over two streams, until the input ends. */
export function serve({ input, output, ...options }: ServeOptions): Serving {
  const transport = new StdioTransport(input, output);
  const { factory, observe } = createMcpServerFactory(options);
  transport.onincoming = observe;
  const handle = serveStdio(factory, {
    transport,
    onerror: (error) => options.logger.debug({ err: error }, "protocol"),
  });
  const close = (): Promise<void> => handle.close();
  return { closed: transport.closed, close, [Symbol.asyncDispose]: close };
}
