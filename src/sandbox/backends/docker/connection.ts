import { Agent } from "node:https";
import { connect as connectSocket } from "node:net";
import { inspect } from "node:util";
import { z } from "zod";
import { SandboxError } from "../../../errors.ts";
import type { EngineAddress, Tls } from "./discover.ts";

/** The part of dockerode's transport that is used: one call, callback once. */
export interface Modem {
  dial(options: DialOptions, callback: (error: Error | null, result: unknown) => void): void;
}

export interface DialOptions {
  path: string;
  method: string;
  statusCodes: Record<number, true>;
  isStream: true;
  options?: { _query?: Record<string, string>; _body?: unknown };
  file?: Buffer;
  headers?: Record<string, string>;
  hijack?: boolean;
  openStdin?: boolean;
  abortSignal?: AbortSignal;
}

const lowestApi = "1.41";
const highestApi = "1.47";

export const engineVersion = z.object({
  Version: z.string(),
  ApiVersion: z.string(),
  MinAPIVersion: z.string().optional(),
  Components: z.array(z.object({ Name: z.string() })).nullish(),
});
export type EngineVersion = z.infer<typeof engineVersion>;

/** The API version both sides speak. */
export function negotiate(server: EngineVersion, endpoint: string): string {
  if (compareVersions(server.ApiVersion, lowestApi) < 0) {
    throw new SandboxError(
      "BACKEND_UNAVAILABLE",
      `The engine at ${endpoint} speaks API ${server.ApiVersion}; ${lowestApi} is the oldest that isolates well enough.`,
      { next: "Upgrade the engine (Docker 20.10 or later, Podman 4.3 or later).", retryable: false },
    );
  }
  const wanted = compareVersions(server.ApiVersion, highestApi) < 0 ? server.ApiVersion : highestApi;
  const least = server.MinAPIVersion;
  return least !== undefined && compareVersions(least, wanted) > 0 ? least : wanted;
}

function compareVersions(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split(".").map(Number);
  const [bMajor = 0, bMinor = 0] = b.split(".").map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}

/** dockerode takes a third of a second to load, so it waits for the first engine call. */
export async function openModem(address: EngineAddress, apiVersion?: string): Promise<Modem> {
  const { default: Dockerode } = await import("dockerode");
  // Every field is named: what is left out, dockerode fills in from process.env.
  const options = {
    socketPath: "socketPath" in address ? address.socketPath : undefined,
    host: "host" in address ? address.host : undefined,
    port: "host" in address ? address.port : undefined,
    protocol: "host" in address && address.tls ? ("https" as const) : ("http" as const),
    agent: "host" in address && address.tls ? new TlsAgent(address.tls) : undefined,
    version: apiVersion === undefined ? undefined : `v${apiVersion}`,
    headers: { "User-Agent": "chorus-sandbox" },
    ca: undefined,
    cert: undefined,
    key: undefined,
    timeout: undefined,
    username: undefined,
  };
  return new Dockerode(options).modem;
}

class TlsAgent extends Agent {
  constructor({ ca, cert, key, verify }: Tls) {
    super({ keepAlive: true, ca, cert, key, rejectUnauthorized: verify });
  }

  /** The transport renders its options for a debug log on every call, whether or not it is on. */
  [inspect.custom](): string {
    return "TlsAgent";
  }
}

/** Undefined when an engine answers a ping at this socket, else why not. */
export function probeSocket(socketPath: string, limitMs = 2_000): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connectSocket(socketPath);
    const finish = (failure: string | undefined) => {
      socket.destroy();
      resolve(failure);
    };
    socket.setTimeout(limitMs, () => finish("ETIMEDOUT"));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code ?? "EIO"));
    socket.once("end", () => finish("ECONNRESET"));
    socket.once("data", (bytes) => finish(bytes.toString("latin1").startsWith("HTTP/1.1 200") ? undefined : "EPROTO"));
    socket.write("GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
  });
}
