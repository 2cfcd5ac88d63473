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
  const chosen = process.env.DOCKER_HOST;
  if (chosen) {
    const api = new EngineApi(chosen);
    if (await api.ping()) return api;
    throw new SetupError(`no engine answers at DOCKER_HOST=${chosen}`, { next: "start it, or unset DOCKER_HOST" });
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
  const runtime = process.env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`;
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
  const folder = process.env.DOCKER_CONFIG ?? join(homedir(), ".docker");
  const name = process.env.DOCKER_CONTEXT ?? readJson(join(folder, "config.json"))?.currentContext;
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
