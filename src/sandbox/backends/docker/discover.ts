import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { SandboxError } from "../../../errors.ts";

const cliConfig = z.object({ currentContext: z.string().optional() });
const contextMeta = z.object({
  Endpoints: z.object({ docker: z.object({ Host: z.string().min(1), SkipTLSVerify: z.boolean().optional() }) }),
});

/** Where to find the engine, as the Docker CLI would be told. All of it comes from the composition root. */
export interface EngineSettings {
  /** DOCKER_HOST */
  host?: string;
  /** DOCKER_TLS_VERIFY is set and not empty. @default false */
  tlsVerify?: boolean;
  /** DOCKER_CERT_PATH. @default the Docker configuration folder */
  certPath?: string;
  /** DOCKER_CONTEXT */
  context?: string;
  /** DOCKER_CONFIG. @default `<home>/.docker` */
  configDir?: string;
  /** XDG_RUNTIME_DIR, where rootless engines listen. @default `/run/user/<uid>` */
  runtimeDir?: string;
}

export interface Tls {
  ca: Buffer | undefined;
  cert: Buffer | undefined;
  key: Buffer | undefined;
  /** Whether the engine's certificate is checked. */
  verify: boolean;
}

export type EngineAddress = {
  /** For people: `unix:///var/run/docker.sock`. */
  endpoint: string;
  /** What led here: `DOCKER_HOST`, `Docker context "colima"`, `known socket`. */
  found: string;
} & ({ socketPath: string } | { host: string; port: number; tls?: Tls });

/** What discovery may look at: files, and whether an engine answers at a socket. */
export interface Surroundings {
  home: string;
  uid: number;
  /** Content of a file, undefined when there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Undefined when an engine answers at this unix socket, else the errno that says why not. */
  probe(socketPath: string): Promise<string | undefined>;
}

/**
 * Finds the engine in the order of the Docker CLI: the explicit host, the context, then the sockets engines are known to
 * use. An explicit answer is taken as it is; only the known sockets are tried.
 */
export async function discoverEngine(settings: EngineSettings, around: Surroundings): Promise<EngineAddress> {
  const configDir = settings.configDir ?? join(around.home, ".docker");
  if (settings.host) {
    const certDir = settings.certPath ?? configDir;
    const tls =
      settings.tlsVerify || settings.host.startsWith("https://") ? await readTls(certDir, true, around) : undefined;
    return parseHost(settings.host, "DOCKER_HOST", tls);
  }
  const context = settings.context ?? (await currentContext(configDir, around));
  if (context !== undefined && context !== "default") return fromContext(context, configDir, around);
  return firstSocket(settings, around);
}

async function firstSocket(settings: EngineSettings, around: Surroundings): Promise<EngineAddress> {
  const candidates = knownSockets(settings, around);
  const tried: string[] = [];
  let denied: string | undefined;
  for (const socketPath of candidates) {
    const failure = await around.probe(socketPath);
    if (failure === undefined) return { endpoint: `unix://${socketPath}`, found: "known socket", socketPath };
    if (failure === "EACCES" || failure === "EPERM") denied ??= socketPath;
    tried.push(`${socketPath} (${failure})`);
  }
  throw new SandboxError("BACKEND_UNAVAILABLE", `No container engine answers. Tried ${tried.join(", ")}.`, {
    next: denied
      ? `Add the user to the group that owns ${denied} (for Docker: \`sudo usermod -aG docker $USER\`, then log in again).`
      : "Start Docker or Podman (`systemctl start docker`), or set DOCKER_HOST to a running engine, then call again.",
  });
}

/** Docker, rootless Docker, Podman, Colima, Docker Desktop. */
export function knownSockets(settings: EngineSettings, { home, uid }: Pick<Surroundings, "home" | "uid">): string[] {
  const runtimeDir = settings.runtimeDir ?? `/run/user/${uid}`;
  return [
    "/var/run/docker.sock",
    join(runtimeDir, "docker.sock"),
    join(runtimeDir, "podman/podman.sock"),
    "/run/podman/podman.sock",
    join(home, ".colima/default/docker.sock"),
    join(home, ".docker/run/docker.sock"),
    join(home, ".docker/desktop/docker.sock"),
  ];
}

async function currentContext(configDir: string, around: Surroundings): Promise<string | undefined> {
  return parsed(cliConfig, await around.read(join(configDir, "config.json")))?.currentContext || undefined;
}

async function fromContext(name: string, configDir: string, around: Surroundings): Promise<EngineAddress> {
  const id = createHash("sha256").update(name).digest("hex");
  const found = `Docker context ${JSON.stringify(name)}`;
  const meta = parsed(contextMeta, await around.read(join(configDir, "contexts/meta", id, "meta.json")));
  const endpoint = meta?.Endpoints.docker;
  if (endpoint === undefined) {
    throw new SandboxError(
      "BACKEND_UNAVAILABLE",
      `${found} is selected but has no readable description in ${configDir}.`,
      {
        next: "Choose another one (`docker context use default`), or set DOCKER_HOST.",
      },
    );
  }
  const verify = !endpoint.SkipTLSVerify;
  const tls = await readTls(join(configDir, "contexts/tls", id, "docker"), verify, around);
  return parseHost(endpoint.Host, found, tls.ca || tls.cert || endpoint.Host.startsWith("https://") ? tls : undefined);
}

async function readTls(folder: string, verify: boolean, around: Surroundings): Promise<Tls> {
  const [ca, cert, key] = await Promise.all(
    ["ca.pem", "cert.pem", "key.pem"].map((name) => around.read(join(folder, name))),
  );
  return { ca, cert, key, verify };
}

function parseHost(host: string, found: string, tls: Tls | undefined): EngineAddress {
  if (host.startsWith("unix://")) {
    const socketPath = host.slice("unix://".length);
    if (socketPath.startsWith("/")) return { endpoint: host, found, socketPath };
    throw refused(host, found, "The path of a unix socket is absolute: unix:///var/run/docker.sock.");
  }
  if (host.startsWith("ssh://")) {
    throw refused(
      host,
      found,
      "Forward the socket (`ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`) and use unix:///tmp/engine.sock.",
    );
  }
  // As tcp:// for every scheme, since a URL forgets the port that http and https have by default.
  const text = host.includes("://") ? host.replace(/^https?:/, "tcp:") : `tcp://${host}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "tcp:" || url.hostname === "") {
    throw refused(host, found, "Use unix:///path, tcp://host:port, http://host:port or https://host:port.");
  }
  // The URL of a non-special scheme keeps the brackets of an IPv6 address; a socket wants it without.
  const address = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? (tls ? 2376 : 2375) : Number(url.port);
  return {
    endpoint: `${tls ? "https" : "tcp"}://${url.hostname}:${port}`,
    found,
    host: address,
    port,
    ...(tls ? { tls } : {}),
  };
}

function refused(host: string, found: string, next: string): SandboxError {
  const shown = host.replace(/\/\/[^@/]*@/, "//***@");
  return new SandboxError(
    "BACKEND_UNAVAILABLE",
    `${found} names an engine this server cannot use: ${JSON.stringify(shown)}.`,
    {
      next,
      retryable: false,
    },
  );
}

function parsed<T>(schema: z.ZodType<T>, bytes: Buffer | undefined): T | undefined {
  if (bytes === undefined) return undefined;
  try {
    return schema.safeParse(JSON.parse(bytes.toString("utf8"))).data;
  } catch {
    return undefined;
  }
}
