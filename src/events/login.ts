import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { Authenticator, NodeConnectionOptions } from "@nats-io/transport-node";
import { SandboxError } from "../errors.ts";
import { readServerUrl, type ServerUrl } from "./server-url.ts";

/** Where NATS is and how to log in; paths are files, read anew at every connect, since operators rotate them. */
export interface NatsLogin {
  /** `nats://host:4222`, `tls://…` or `host:port`; a user and password in the URL serve where none is given. */
  servers: string[];
  creds?: string;
  nkeySeedFile?: string;
  user?: string;
  password?: string;
  tls?: { ca?: string; cert?: string; key?: string };
}

function parseServer(url: string): ServerUrl {
  const server = readServerUrl(url);
  // Not the URL: it may carry a password.
  if (server === undefined) throw new SandboxError("INVALID_ARGUMENT", "The URL of a NATS server cannot be read.");
  return server;
}

const listen = ({ host, port }: ServerUrl): string => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

/** Servers without what is secret in their URLs, for logs. */
export const serverNames = (login: NatsLogin): string[] => login.servers.map((url) => listen(parseServer(url)));

/** Names servers and account, without any secret: relays with the same target share a role and a cursor. */
export function relayTarget(login: NatsLogin): string {
  const servers = login.servers.map(parseServer);
  const account = login.creds ?? login.nkeySeedFile ?? login.user ?? servers[0]?.user ?? login.tls?.cert ?? "";
  const key = JSON.stringify([servers.map(listen).sort(), account]);
  return createHash("sha256").update(key).digest("hex").slice(0, 16);
}

/** Options of one connect; throws when a file cannot be read. */
export async function connectOptions(login: NatsLogin, name: string): Promise<NodeConnectionOptions> {
  const servers = login.servers.map(parseServer);
  const authenticator = await authenticatorOf(login, servers[0]);
  const tls = login.tls ?? (servers.some(({ secure }) => secure) ? {} : undefined);
  return {
    name,
    servers: servers.map(listen),
    timeout: 5_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 500,
    reconnectJitter: 500,
    reconnectJitterTLS: 500,
    pingInterval: 10_000,
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    ...(authenticator && { authenticator }),
    ...(tls && {
      tls: {
        ...(tls.ca && { caFile: tls.ca }),
        ...(tls.cert && { certFile: tls.cert }),
        ...(tls.key && { keyFile: tls.key }),
        ...identityCheck(servers),
      },
    }),
  };
}

/**
 * The client gives Node no name to check where a server is an address, and Node then asks the certificate for `localhost`:
 * asked for instead are the addresses that were configured.
 */
function identityCheck(servers: readonly ServerUrl[]) {
  const addresses = servers.map(({ host }) => host).filter((host) => isIP(host) !== 0);
  return {
    checkServerIdentity: (name: string, certificate: PeerCertificate): Error | undefined => {
      const unnamed = name === "localhost" && !servers.some(({ host }) => host === name);
      if (unnamed && addresses.some((address) => !checkServerIdentity(address, certificate))) return undefined;
      return checkServerIdentity((unnamed && addresses[0]) || name, certificate);
    },
  };
}

async function authenticatorOf(login: NatsLogin, first: ServerUrl | undefined): Promise<Authenticator | undefined> {
  const nats = await import("@nats-io/transport-node");
  const { creds, nkeySeedFile } = login;
  if (creds !== undefined) return nats.credsAuthenticator(latest(creds));
  if (nkeySeedFile !== undefined) {
    const seed = latest(nkeySeedFile);
    return nats.nkeyAuthenticator(() => Buffer.from(Buffer.from(seed()).toString("utf8").trim()));
  }
  const { user, password } = login.user === undefined ? (first ?? {}) : login;
  return user === undefined ? undefined : nats.usernamePasswordAuthenticator(user, password);
}

/** The file's content as it is now, or as it last was: while it is being replaced, a reconnect must not fail for good. */
function latest(file: string): () => Uint8Array {
  let content = readFileSync(file);
  return () => {
    try {
      content = readFileSync(file);
    } catch {
      // Keeps what was read before.
    }
    return content;
  };
}

/** Whether any of the servers says a word within `ms`: tells a hung server without leaving a socket behind. */
export async function answers(login: NatsLogin, ms: number): Promise<boolean> {
  const greets = (server: ServerUrl): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: server.host, port: server.port });
      const end = (settle: () => void) => () => {
        socket.destroy();
        settle();
      };
      socket.setTimeout(ms, end(reject)).once("error", end(reject)).once("end", end(reject)).once("data", end(resolve));
      setTimeout(end(reject), ms).unref();
    });
  return Promise.any(login.servers.map((url) => greets(parseServer(url)))).then(
    () => true,
    () => false,
  );
}
