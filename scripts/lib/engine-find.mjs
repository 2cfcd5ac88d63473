// @ts-check
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { EngineApi } from "./engine-api.mjs";
import { SetupError } from "./errors.mjs";

/**
 * An engine that already runs here, found in the order in which the server itself looks: DOCKER_HOST, the current
 * Docker context, the known sockets.
 *
 * @returns {Promise<EngineApi | undefined>}
 */
export async function findRunningEngine() {
  const { DOCKER_HOST } = process.env;
  if (DOCKER_HOST) {
    const api = new EngineApi(DOCKER_HOST);
    if (await api.ping()) return api;
    throw new SetupError(`no engine answers at DOCKER_HOST=${DOCKER_HOST}`, { next: "start it, or unset DOCKER_HOST" });
  }
  for (const host of [contextHost(), ...knownSockets()]) {
    const api = host && reachable(host) ? new EngineApi(host) : undefined;
    if (api && (await api.ping())) return api;
  }
  return undefined;
}

/** @param {string} host */
function reachable(host) {
  if (host.startsWith("unix://")) return existsSync(host.slice("unix://".length));
  return /^(tcp|https?):/.test(host);
}

function knownSockets() {
  const home = homedir();
  const { XDG_RUNTIME_DIR: runtime = `/run/user/${process.getuid?.() ?? 0}` } = process.env;
  return [
    "/var/run/docker.sock",
    join(runtime, "docker.sock"),
    join(home, ".docker/run/docker.sock"),
    "/run/podman/podman.sock",
    join(runtime, "podman/podman.sock"),
    join(home, ".colima/default/docker.sock"),
    join(home, ".docker/desktop/docker.sock"),
  ].map((path) => `unix://${path}`);
}

/** @returns {string | undefined} */
function contextHost() {
  const { DOCKER_CONFIG: folder = join(homedir(), ".docker"), DOCKER_CONTEXT } = process.env;
  const name = DOCKER_CONTEXT ?? readJson(join(folder, "config.json"))?.currentContext;
  if (!name || name === "default") return undefined;
  const id = createHash("sha256").update(name).digest("hex");
  return readJson(join(folder, "contexts/meta", id, "meta.json"))?.Endpoints?.docker?.Host;
}

/** @param {string} path */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}
