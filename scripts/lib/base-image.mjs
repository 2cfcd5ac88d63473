// @ts-check
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeOffline, offlineObstacle } from "./base-image-offline.mjs";
import { devDir } from "./dev-dir.mjs";
import { explain, SetupError } from "./errors.mjs";
import { withLock } from "./lock.mjs";
import { note } from "./log.mjs";
import { tarOf } from "./tar.mjs";

/** @import { EngineApi } from "./engine-api.mjs" */

/** The image a sandbox gets when nobody names one. */
export const BASE_IMAGE = "chorus-sandbox/base";

const RECIPE_DIR = fileURLToPath(new URL("../../images/base", import.meta.url));
const PULL_LIMIT_MS = 3 * 60_000;
const BUILD_LIMIT_MS = 20 * 60_000;

/**
 * Makes the default image unless the engine has the one of this recipe; `latest` is then that one.
 *
 * @param {EngineApi} api
 * @returns {Promise<{ image: string, how: "present" | "built" | "offline" }>}
 */
export async function ensureBaseImage(api) {
  const files = recipeFiles();
  const image = `${BASE_IMAGE}:${recipeHash(files)}`;
  const tagged = async () => {
    if (!(await api.image(image))) return false;
    await api.tag(image, `${BASE_IMAGE}:latest`);
    return true;
  };
  if (await tagged()) return { image, how: "present" };
  return withLock(join(devDir(), "base-image.lock"), async () => {
    // Another run may have made it while this one waited.
    if (await tagged()) return { image, how: "present" };
    const how = await make(api, image, files);
    await api.tag(image, `${BASE_IMAGE}:latest`);
    return { image, how };
  });
}

/**
 * @param {EngineApi} api
 * @param {string} image
 * @param {Map<string, Buffer>} files
 * @returns {Promise<"built" | "offline">}
 */
async function make(api, image, files) {
  const dockerfile = String(files.get("Dockerfile"));
  try {
    for (const parent of dockerfile.matchAll(/^FROM (\S+)/gm)) await pull(api, parent[1] ?? "");
  } catch (error) {
    const obstacle = await offlineObstacle(api);
    if (obstacle) {
      throw new SetupError(
        `${image} can be made neither from a registry nor without one.\n${explain(error)}\n${obstacle}`,
        {
          next: "let the engine reach a registry, or load the image from a machine that has it (docker save | docker load)",
          cause: error,
        },
      );
    }
    note(`no registry in reach: making ${BASE_IMAGE} from Debian packages (about a minute, once)`);
    await makeOffline(api, image, { recipeDir: RECIPE_DIR, files, changes: declarations(dockerfile) });
    return "offline";
  }
  note(`building ${BASE_IMAGE} (a few minutes, once)`);
  const context = tarOf([...files].map(([path, content]) => ({ path, content })));
  await api.call("POST", "/build", {
    query: { t: image, networkmode: "host", rm: "1", forcerm: "1" },
    tar: context,
    timeoutMs: BUILD_LIMIT_MS,
  });
  return "built";
}

/**
 * @param {EngineApi} api
 * @param {string} reference
 */
async function pull(api, reference) {
  if (await api.image(reference)) return;
  const [fromImage = reference, tag = "latest"] = reference.split(":");
  await api.call("POST", "/images/create", { query: { fromImage, tag }, timeoutMs: PULL_LIMIT_MS });
}

/**
 * What the Dockerfile declares after its last file system step, for the image made without it.
 *
 * @param {string} dockerfile
 */
function declarations(dockerfile) {
  return dockerfile.split("\n").filter((line) => /^(ENV|CMD) /.test(line));
}

function recipeFiles() {
  return new Map(
    readdirSync(RECIPE_DIR)
      .sort()
      .map((name) => [name, readFileSync(join(RECIPE_DIR, name))]),
  );
}

/** @param {Map<string, Buffer>} files */
function recipeHash(files) {
  const hash = createHash("sha256");
  for (const [name, content] of files) hash.update(`${name}\0${content.length}\0`).update(content);
  return hash.digest("hex").slice(0, 12);
}
