import { readFileSync, realpathSync } from "node:fs";
import path from "node:path";
import type { NatsLogin } from "./events/login.ts";
import { readServerUrl, withoutLogin } from "./events/server-url.ts";
import { readPolicy } from "./policy-file.ts";
import { parseReference } from "./sandbox/image-reference.ts";
import { type HostDir, underCeiling } from "./sandbox/policy/host-dirs.ts";
import { imageAllowed } from "./sandbox/policy/images.ts";
import type { Policy } from "./sandbox/policy.ts";

/** Everything the environment and the operator's policy decide, read once. */
export interface Config {
  /** What the Docker CLI would read; discovery makes an engine of it. */
  engine: {
    host?: string;
    context?: string;
    tlsVerify: boolean;
    certPath?: string;
    configDir?: string;
    runtimeDir?: string;
  };
  nats?: NatsLogin;
  dataDir: string;
  policy: Policy;
  hostDirs: HostDir[];
  /** Image when sandbox_create names none. */
  image: string;
  pool: number;
  /** Subject token of this host; undefined: host name and short install id. */
  host?: string;
  tenant: string;
  logLevel: string;
}

export interface Surroundings {
  env: Record<string, string | undefined>;
  home: string;
  cpus: number;
}

/** Thrown by {@link loadConfig}: one message that names every bad variable, its value and what is accepted. */
export class ConfigError extends Error {
  constructor(problems: string[]) {
    super(
      `chorus-sandbox cannot start, ${problems.length} bad setting(s):\n${problems.map((p) => `  ${p}`).join("\n")}`,
    );
    this.name = "ConfigError";
  }
}

export const defaultImage = "chorus-sandbox/base";
const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

export function loadConfig({ env, home, cpus }: Surroundings): Config {
  const problems: string[] = [];
  const get = (name: string): string | undefined => env[name]?.trim() || undefined;
  const bad = (name: string, accepted: string, shown = (value: string) => value): void => {
    problems.push(`${name}=${JSON.stringify(shown(env[name] ?? ""))}: ${accepted}`);
  };

  const file = (name: string): string | undefined => {
    const value = get(name);
    if (value === undefined) return undefined;
    try {
      readFileSync(value);
      return value;
    } catch (error) {
      bad(name, `must be a readable file (${reason(error)})`);
      return undefined;
    }
  };

  const natsServers = get("NATS_URL")
    ?.split(",")
    .map((url) => url.trim())
    .filter(Boolean);
  if (natsServers && (natsServers.length === 0 || natsServers.some((url) => readServerUrl(url) === undefined))) {
    bad(
      "NATS_URL",
      "must be servers like nats://host:4222 or tls://host, comma separated; percent-encode # ? % @ / , in user and password",
      withoutLogin,
    );
  }
  const user = get("NATS_USER");
  const password = env["NATS_PASSWORD"];
  if ((user === undefined) !== (password === undefined || password === "")) {
    problems.push("NATS_USER and NATS_PASSWORD: set both or none");
  }
  const creds = file("NATS_CREDS");
  const nkeySeedFile = file("NATS_NKEY_SEED_FILE");
  const ca = file("NATS_TLS_CA");
  const cert = file("NATS_TLS_CERT");
  const key = file("NATS_TLS_KEY");
  if ((get("NATS_TLS_CERT") === undefined) !== (get("NATS_TLS_KEY") === undefined)) {
    problems.push("NATS_TLS_CERT and NATS_TLS_KEY: set both or none");
  }

  const dataDir =
    get("CHORUS_SANDBOX_DATA_DIR") ??
    path.join(get("XDG_STATE_HOME") ?? path.join(home, ".local/state"), "chorus-sandbox");
  if (!path.isAbsolute(dataDir)) bad("CHORUS_SANDBOX_DATA_DIR", "must be an absolute path");

  const token = (name: string): string | undefined => {
    const value = get(name);
    if (value !== undefined && value.length > 64) bad(name, "must be at most 64 characters");
    return value;
  };

  const logLevel = get("LOG_LEVEL") ?? "info";
  if (!logLevels.some((level) => level === logLevel)) bad("LOG_LEVEL", `must be one of ${logLevels.join(", ")}`);

  const dockerHost = get("DOCKER_HOST");
  if (dockerHost !== undefined && !/^(unix|tcp|http|https|npipe|ssh):\/\//.test(dockerHost)) {
    bad("DOCKER_HOST", "must be like unix:///var/run/docker.sock or tcp://host:2376");
  }

  const policy = readPolicy(get("CHORUS_SANDBOX_POLICY"), cpus, problems);
  const mostPool = policy.maxima.pool;
  const pool = Number(get("CHORUS_SANDBOX_POOL") ?? Math.min(1, mostPool));
  if (!Number.isInteger(pool) || pool < 0 || pool > mostPool)
    bad(
      "CHORUS_SANDBOX_POOL",
      `must be a whole number from 0 to ${mostPool}${mostPool < 50 ? " (maxima.pool of the policy)" : ""}`,
    );
  const image = get("CHORUS_SANDBOX_IMAGE");
  if (image !== undefined) checkImage(image, policy, (accepted) => bad("CHORUS_SANDBOX_IMAGE", accepted));
  const hostDirs = openHostDirs(get("CHORUS_SANDBOX_HOST_DIRS"), policy, problems);
  const host = token("CHORUS_SANDBOX_HOST");
  const tenant = token("CHORUS_SANDBOX_TENANT") ?? "default";
  const context = get("DOCKER_CONTEXT");
  const certPath = get("DOCKER_CERT_PATH");
  const configDir = get("DOCKER_CONFIG");
  const runtimeDir = get("XDG_RUNTIME_DIR");
  if (problems.length > 0) throw new ConfigError(problems);

  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  return Object.freeze({
    engine: {
      ...(dockerHost && { host: dockerHost }),
      ...(context && { context }),
      tlsVerify: get("DOCKER_TLS_VERIFY") !== undefined,
      ...(certPath && { certPath }),
      ...(configDir && { configDir }),
      ...(runtimeDir && { runtimeDir }),
    },
    ...(natsServers && {
      nats: {
        servers: natsServers,
        ...(creds && { creds }),
        ...(nkeySeedFile && { nkeySeedFile }),
        ...(user && password && { user, password }),
        ...(Object.keys(tls).length > 0 && { tls }),
      },
    }),
    dataDir,
    policy,
    hostDirs,
    image: image ?? defaultImage,
    pool,
    ...(host && { host }),
    tenant,
    logLevel,
  });
}

function checkImage(image: string, policy: Policy, bad: (accepted: string) => void): void {
  try {
    if (!imageAllowed(policy, parseReference(image))) bad("must be an image the policy allows (images)");
  } catch {
    bad("must be an image reference like python:3.12 or ghcr.io/owner/name:tag");
  }
}

/** What the environment opens, under the policy's ceiling; a folder that is a link must stay there as well. */
function openHostDirs(text: string | undefined, policy: Policy, problems: string[]): HostDir[] {
  const asked = readHostDirs(text, problems);
  const ceiling = policy.host_dirs_ceiling ?? undefined;
  const { dirs, beyond } = underCeiling(asked, ceiling);
  const led = underCeiling(dirs.map(real), ceiling && [...ceiling, ...ceiling.map(real)]).beyond;
  const shown = (list: readonly HostDir[]): string => list.map((dir) => `${dir.path}:${dir.mode}`).join(",");
  if (beyond.length + led.length > 0) {
    problems.push(
      `CHORUS_SANDBOX_HOST_DIRS: ${JSON.stringify(shown([...beyond, ...led]))}: must lie within host_dirs of the policy (${shown(ceiling ?? []) || "none"})`,
    );
  }
  return dirs;
}

function real(dir: HostDir): HostDir {
  try {
    return { ...dir, path: realpathSync(dir.path) };
  } catch {
    return dir;
  }
}

function readHostDirs(text: string | undefined, problems: string[]): HostDir[] {
  if (text === undefined) return [];
  return text
    .split(",")
    .filter(Boolean)
    .flatMap((entry) => {
      const match = /^(\/.*):(ro|rw)$/.exec(entry.trim());
      if (match?.[1] === undefined || match[2] === undefined) {
        problems.push(
          `CHORUS_SANDBOX_HOST_DIRS: ${JSON.stringify(entry)}: must be absolute folders like /data:ro,/out:rw`,
        );
        return [];
      }
      return [
        {
          path: path.normalize(match[1]).replace(/(?<=.)\/+$/, ""),
          mode: match[2] === "rw" ? ("rw" as const) : ("ro" as const),
        },
      ];
    });
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));
