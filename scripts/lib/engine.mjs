// @ts-check
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canInstall } from "./apt.mjs";
import { onExit } from "./cleanup.mjs";
import { devDir } from "./dev-dir.mjs";
import { EngineApi } from "./engine-api.mjs";
import { findRunningEngine } from "./engine-find.mjs";
import { enginePaths, removeContainersAndVolumes, startPrivateEngine, stopPrivateEngine } from "./engine-private.mjs";
import { SetupError } from "./errors.mjs";
import { withLock } from "./lock.mjs";
import { identityOf, isSameProcess } from "./processes.mjs";

/**
 * @typedef {object} Engine
 * @property {string} host for `DOCKER_HOST`
 * @property {EngineApi} api
 * @property {boolean} isPrivate ours, as opposed to one found running
 * @property {() => Promise<void>} release ends this process's use; the last user of a private engine stops it
 */

/**
 * The engine to work with: one that already runs, which is used and otherwise left alone, or else a private one, shared
 * by all runs of this dev dir and stopped by the last of them, at the latest in `cleanUp`.
 *
 * @param {{ keep?: boolean }} [options] keep: leave a private one running until `stopKeptEngine`
 * @returns {Promise<Engine>}
 */
export async function useEngine({ keep = false } = {}) {
  const running = await findRunningEngine();
  if (running) return { host: running.host, api: running, isPrivate: false, release: async () => {} };
  if (process.platform !== "linux" || !canInstall()) {
    throw new SetupError("no container engine answers, and only root on Debian can have a private one", {
      next: "start Docker or Podman, or set DOCKER_HOST, or run this as root on Debian",
    });
  }
  const files = filesOf(devDir());
  const end = once(() => release(files));
  onExit("the engine", end);
  const api = await withLock(files.lock, async () => {
    const started = await startOrJoin(files);
    mkdirSync(files.users, { recursive: true });
    writeFileSync(files.own, "");
    if (keep) writeFileSync(files.kept, "");
    return started;
  });
  return { host: api.host, api, isPrivate: true, release: end };
}

/**
 * @param {EngineFiles} files
 * @returns {Promise<EngineApi>}
 */
async function startOrJoin(files) {
  const running = new EngineApi(`unix://${files.paths.socket}`);
  if (!(await running.ping())) {
    // A mark to keep speaks of the engine that ran then, not of one that has to be started anew.
    rmSync(files.kept, { force: true });
    return startPrivateEngine(files.paths);
  }
  // Its users were killed: what they left in it belongs to nobody.
  if (!existsSync(files.kept) && !hasUsers(files.users)) await removeContainersAndVolumes(running);
  return running;
}

/**
 * Ends what `keep` began.
 *
 * @returns {Promise<"stopped" | "in use" | "not running">}
 */
export async function stopKeptEngine() {
  const files = filesOf(devDir());
  if (!existsSync(files.kept) && !existsSync(files.paths.socket)) return "not running";
  rmSync(files.kept, { force: true });
  await release(files);
  return existsSync(files.paths.socket) ? "in use" : "stopped";
}

/**
 * @template T
 * @param {() => T} work
 * @returns {() => T}
 */
function once(work) {
  /** @type {{ value: T } | undefined} */
  let done;
  return () => {
    done ??= { value: work() };
    return done.value;
  };
}

/** @typedef {ReturnType<typeof filesOf>} EngineFiles */

/** @param {string} root */
function filesOf(root) {
  const users = join(root, "engine-users");
  return {
    paths: enginePaths(root),
    lock: join(root, "engine.lock"),
    kept: join(root, "engine-kept"),
    users,
    own: join(users, identityOf(process.pid) ?? String(process.pid)),
  };
}

/** @param {EngineFiles} files */
async function release(files) {
  await withLock(files.lock, async () => {
    rmSync(files.own, { force: true });
    if (existsSync(files.kept) || hasUsers(files.users)) return;
    await stopPrivateEngine(files.paths);
  });
}

/**
 * Users that still live; the marks of those that died without a word are removed.
 *
 * @param {string} folder
 */
function hasUsers(folder) {
  if (!existsSync(folder)) return false;
  const alive = readdirSync(folder).filter((identity) => {
    if (isSameProcess(identity)) return true;
    rmSync(join(folder, identity), { force: true });
    return false;
  });
  return alive.length > 0;
}
