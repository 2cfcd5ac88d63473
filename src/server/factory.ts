import {
  isJSONRPCNotification,
  isJSONRPCRequest,
  type JSONRPCMessage,
  type McpServerFactory,
  Server,
} from "@modelcontextprotocol/server";
import { SandboxError } from "../errors.ts";
import type { Sandboxes } from "../sandbox/api.ts";
import { isObject } from "../tools/coerce.ts";
import { type Connection, cancellation, type Log, toCall } from "./call.ts";
import { complete } from "./completion.ts";
import type { PolicyView } from "./instructions.ts";
import { listResources, protocolError, readResource, resourceTemplates } from "./resources.ts";
import { Subscriptions } from "./subscriptions.ts";

export interface McpServerOptions {
  /** Called at the first call that needs it, and again after a failure; clients spawn servers just to look. */
  sandboxes: () => Promise<Sandboxes> | Sandboxes;
  /** Called when a client has listed the tools: what the first call will need may be loaded. */
  preload?: () => void;
  policyView: PolicyView;
  /** Content of `schema://events`. */
  eventSchemas: () => unknown;
  instructions: string;
  logger: Log;
  version: string;
  /** Folder the server was started in. */
  folder: string;
  tenant: string;
}

export interface McpServing {
  /** For `serveStdio`: makes a server for the connection, or for a probe that is thrown away. */
  factory: McpServerFactory;
  /** Must see every message that comes in: the SDK keeps 2026-era subscriptions to itself. */
  observe(message: JSONRPCMessage): void;
}

const cacheHint = { ttlMs: 300_000, cacheScope: "private" } as const;

let loaded: Promise<typeof import("./call-tool.ts") & typeof import("./tool-list.ts")> | undefined;

/** The schemas of the tools take longer to make than all else here: a client that only says hello does not wait for them. */
function tools(): NonNullable<typeof loaded> {
  loaded ??= Promise.all([import("./call-tool.ts"), import("./tool-list.ts")]).then(([call, list]) => ({
    ...call,
    ...list,
  }));
  return loaded;
}

/** Servers for one connection: whichever instance was made last is the one that lives. */
export function createMcpServerFactory(options: McpServerOptions): McpServing {
  const { logger, policyView } = options;
  const network = policyView.networks.some((mode) => mode !== "none");
  const { open, opened } = openOnce(options.sandboxes);
  let current: Connection | undefined;
  /** 2026-era subscriptions not yet cancelled: one may be while the runtime opens for it. */
  const listening = new Set<string | number>();
  const subscriptions = new Subscriptions({
    updated: async (uri) => current?.server.sendResourceUpdated({ uri }),
    listChanged: async () => current?.server.sendResourceListChanged(),
  });

  const factory: McpServerFactory = ({ era }) => {
    const server = new Server(
      { name: "chorus-sandbox", title: "CHORUS sandboxes", version: options.version },
      {
        // A 2025-era client cannot choose: it would list all again at every sandbox made.
        capabilities: { tools: {}, resources: { subscribe: true, listChanged: era === "modern" }, completions: {} },
        instructions: options.instructions,
        cacheHints: { "tools/list": cacheHint, "resources/templates/list": cacheHint, "server/discover": cacheHint },
      },
    );
    const connection: Connection = {
      server,
      closed: false,
      folder: options.folder,
      tenant: options.tenant,
      sandboxes: open,
      logger,
    };
    current = connection;
    server.onclose = () => {
      connection.closed = true;
      if (current !== connection) return;
      listening.clear();
      subscriptions.clear();
    };
    server.onerror = (error) => logger.debug({ err: error }, "protocol");
    addHandlers(connection);
    return server;
  };

  const addHandlers = (connection: Connection): void => {
    const { server } = connection;
    const callOf = (ctx: Parameters<typeof toCall>[0]) => toCall(ctx, connection, cancellation(ctx, connection)).call;
    server.setRequestHandler("tools/list", async () => {
      const { toolList } = await tools();
      // Who asks for the tools means to use them.
      if (options.preload) setImmediate(options.preload);
      return toolList(network);
    });
    server.setRequestHandler("tools/call", async (request, ctx) => {
      const signal = cancellation(ctx, connection);
      const { callTool } = await tools();
      return callTool(request, ctx, connection, signal);
    });
    server.setRequestHandler("resources/list", (_request, ctx) => listResources(opened(), callOf(ctx)));
    server.setRequestHandler("resources/templates/list", () => resourceTemplates);
    server.setRequestHandler("resources/read", ({ params }, ctx) =>
      readResource(params.uri, open, callOf(ctx), options),
    );
    server.setRequestHandler("completion/complete", (request, ctx) => complete(request, open, callOf(ctx)));
    server.setRequestHandler("resources/subscribe", async ({ params: { uri } }, ctx) => {
      const sandboxes = await open().catch(protocolError);
      const resolve = async (id: string) => (await sandboxes.get(id, { wait_s: 0 }, callOf(ctx))).sandbox_id;
      try {
        await subscriptions.add(uri, { uris: [uri] }, sandboxes, resolve);
      } catch (error) {
        subscriptions.remove(uri);
        protocolError(error, uri);
      }
      return {};
    });
    server.setRequestHandler("resources/unsubscribe", ({ params }) => {
      subscriptions.remove(params.uri);
      return {};
    });
  };

  const listen = async (id: string | number, { notifications: filter }: Record<string, unknown>): Promise<void> => {
    if (!isObject(filter)) return;
    const { resourceSubscriptions: asked, resourcesListChanged: list } = filter;
    const uris = Array.isArray(asked) ? asked.filter((uri) => typeof uri === "string") : [];
    if (uris.length === 0 && list !== true) return;
    listening.add(id);
    const sandboxes = await open();
    if (!listening.has(id)) return;
    const call = { signal: new AbortController().signal, client: "unknown", folder: options.folder };
    // The SDK has acknowledged by now: what does not exist is watched under the words it was asked by.
    const resolve = (name: string) =>
      sandboxes.get(name, { wait_s: 0 }, call).then(
        (found) => found.sandbox_id,
        () => name,
      );
    await subscriptions.add(id, { uris, list: list === true }, sandboxes, resolve);
  };

  return {
    factory,
    observe(message) {
      if (isJSONRPCRequest(message) && message.method === "subscriptions/listen") {
        listen(message.id, message.params ?? {}).catch((error: unknown) => {
          logger.warn({ err: error }, "cannot follow events for a subscription");
        });
      } else if (isJSONRPCNotification(message) && message.method === "notifications/cancelled") {
        const { requestId: id } = message.params ?? {};
        if (typeof id === "string" || typeof id === "number") {
          listening.delete(id);
          subscriptions.remove(id);
        }
      }
    },
  };
}

/** Opens at the first use; a failed opening is tried again by the next. */
function openOnce(make: () => Promise<Sandboxes> | Sandboxes): {
  open: () => Promise<Sandboxes>;
  opened: () => Sandboxes | undefined;
} {
  let opening: Promise<Sandboxes> | undefined;
  let done: Sandboxes | undefined;
  const open = async (): Promise<Sandboxes> => {
    opening ??= (async () => make())();
    try {
      done = await opening;
      return done;
    } catch (error) {
      opening = undefined;
      throw SandboxError.from(error);
    }
  };
  return { open, opened: () => done };
}
