// @ts-check
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureProgram } from "./apt.mjs";
import { runDir } from "./dev-dir.mjs";
import { EngineApi } from "./engine-api.mjs";
import { SetupError } from "./errors.mjs";
import { note } from "./log.mjs";
import { endProcess, findProcesses, identityOf, send, withDescendants } from "./processes.mjs";
import { run, tail } from "./run.mjs";

/**
 * A Docker engine of this project's own, beside whatever else runs on the machine. Its images stay in the dev dir as a
 * cache between runs; containers and volumes do not.
 */

const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;

/** @param {string} root the dev dir */
export function enginePaths(root) {
  const run = runDir(root);
  return {
    data: join(root, "engine"),
    exec: join(run, "exec"),
    pid: join(run, "docker.pid"),
    socket: join(run, "docker.sock"),
    log: join(root, "engine.log"),
  };
}

/** @typedef {ReturnType<typeof enginePaths>} EnginePaths */

/**
 * The caller holds the dev dir's lock.
 *
 * @param {EnginePaths} paths
 * @returns {Promise<EngineApi>}
 */
export async function startPrivateEngine(paths) {
  const dockerd = await ensureProgram("dockerd", ["docker.io", "iptables"]);
  try {
    await launch(dockerd, paths);
  } catch (error) {
    if (!existsSync(paths.data)) throw error;
    // A power cut or a full disk in the middle of an import can leave a store that no engine opens again.
    note("the engine did not start; trying once more with an empty image store");
    await sweep(paths);
    rmSync(paths.data, { recursive: true, force: true });
    await launch(dockerd, paths);
  }
  const api = new EngineApi(`unix://${paths.socket}`);
  await removeContainersAndVolumes(api);
  return api;
}

/**
 * The caller holds the dev dir's lock.
 *
 * @param {EnginePaths} paths
 */
export async function stopPrivateEngine(paths) {
  const api = new EngineApi(`unix://${paths.socket}`);
  // Removing is much faster than letting the engine ask every container to stop.
  if (await api.ping()) await removeContainersAndVolumes(api).catch(() => {});
  // dockerd alone: a shim that is asked to end leaves its container behind without anything that tells whose it was.
  for (const pid of daemons(paths, "dockerd")) await endProcess(pid, { graceMs: STOP_LIMIT_MS });
  await sweep(paths);
}

/**
 * The engine again after it was killed, with the containers as it finds them: without `--live-restore` it ends them.
 *
 * @param {EnginePaths} paths
 * @param {readonly string[]} [flags]
 */
export async function restartPrivateEngine(paths, flags = []) {
  for (const pid of [...daemons(paths, "dockerd"), ...daemons(paths, "containerd", "whole name")]) {
    await endProcess(pid, { signal: "SIGKILL", graceMs: 5_000 });
  }
  // The numbers in there may be other programs' by now, or those of zombies.
  for (const file of [paths.pid, join(paths.exec, "containerd/containerd.pid")]) rmSync(file, { force: true });
  await start(await ensureProgram("dockerd", ["docker.io", "iptables"]), paths, flags);
}

/**
 * @param {string} dockerd
 * @param {EnginePaths} paths
 */
async function launch(dockerd, paths) {
  await sweep(paths);
  await start(dockerd, paths);
}

/**
 * @param {string} dockerd
 * @param {EnginePaths} paths
 * @param {readonly string[]} [flags]
 */
async function start(dockerd, paths, flags = []) {
  for (const folder of [paths.data, paths.exec]) mkdirSync(folder, { recursive: true, mode: 0o710 });
  const log = openSync(paths.log, "w");
  // No bridge: sandboxes have no network, and an engine without one neither needs iptables rules nor gets in the way of
  // another engine's. Pulls and `docker build --network host` still use the host's network.
  const daemon = spawn(
    dockerd,
    // biome-ignore format: one option a line reads best
    [
      "--data-root", paths.data,
      "--exec-root", paths.exec,
      "--pidfile", paths.pid,
      "--host", `unix://${paths.socket}`,
      "--bridge", "none",
      "--iptables=false",
      ...flags,
    ],
    { detached: true, stdio: ["ignore", log, log] },
  );
  closeSync(log);
  let ended = false;
  daemon.once("exit", () => (ended = true)).once("error", () => (ended = true));
  daemon.unref();
  const api = new EngineApi(`unix://${paths.socket}`);
  const deadline = performance.now() + READY_LIMIT_MS;
  while (!(await api.ping())) {
    if (ended || performance.now() > deadline) {
      const what = ended ? "ended while starting" : `was not ready within ${READY_LIMIT_MS / 1_000} s`;
      throw new SetupError(`the private engine ${what}; its log ends with\n${tail(readFileSync(paths.log, "utf8"))}`);
    }
    await sleep(50);
  }
}

/**
 * Ends and removes what an earlier engine left that did not stop by itself: its containerd, the containers' shims and
 * processes, mounts, sockets, and a pid file that may by now name any program.
 *
 * @param {EnginePaths} paths
 */
async function sweep(paths) {
  const leftovers = withDescendants(daemons(paths));
  const identities = leftovers.map(identityOf);
  for (const pid of leftovers) send(pid, "SIGKILL");
  const deadline = performance.now() + 5_000;
  while (
    leftovers.some((pid, i) => identityOf(pid) === identities[i] && identities[i]) &&
    performance.now() < deadline
  ) {
    await sleep(25);
  }
  for (const mount of mountsIn([paths.data, paths.exec])) {
    await run("umount", ["--lazy", mount], { timeoutMs: 10_000, check: false });
  }
  for (const path of [paths.exec, paths.pid, paths.socket]) rmSync(path, { recursive: true, force: true });
}

/**
 * The engine's own processes, told by their program and by our folders among their arguments.
 *
 * @param {EnginePaths} paths
 * @param {string} [name] that the program's name starts with; default: dockerd, containerd and its shims
 * @param {"whole name"} [whole] the program has that name
 */
function daemons({ exec, data }, name, whole) {
  const names = name ? [name] : ["dockerd", "containerd"];
  return findProcesses(
    ({ program, args }) =>
      names.some((known) => (whole ? program === known : program.startsWith(known))) &&
      args.some((arg) => [exec, data].some((folder) => arg === folder || arg.startsWith(`${folder}/`))),
  );
}

/** @param {readonly string[]} folders */
function mountsIn(folders) {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) =>
      (line.split(" ")[4] ?? "").replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8))),
    )
    .filter((path) => folders.some((folder) => path === folder || path.startsWith(`${folder}/`)))
    .reverse();
}

/** @param {EngineApi} api */
export async function removeContainersAndVolumes(api) {
  const containers = (await api.call("GET", "/containers/json", { query: { all: "1" } })).json();
  for (const { Id } of containers) {
    await api.call("DELETE", `/containers/${Id}`, { query: { force: "1", v: "1" }, accept: [404, 409] });
  }
  const volumes = (await api.call("GET", "/volumes")).json().Volumes ?? [];
  for (const { Name } of volumes) await api.call("DELETE", `/volumes/${Name}`, { accept: [404, 409] });
}
