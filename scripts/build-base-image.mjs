#!/usr/bin/env node
// @ts-check
/**
 * Makes `chorus-sandbox/base`, the image of sandboxes that name none, in the engine that DOCKER_HOST, the current Docker
 * context or a known socket leads to. Does nothing if it is there.
 *
 *   node scripts/build-base-image.mjs
 */
import { ensureBaseImage } from "./lib/base-image.mjs";
import { cli, isEntry } from "./lib/cli.mjs";
import { EngineApi } from "./lib/engine-api.mjs";
import { findRunningEngine } from "./lib/engine-find.mjs";
import { SetupError } from "./lib/errors.mjs";
import { step } from "./lib/log.mjs";

/**
 * @param {string} [host] as in DOCKER_HOST; default: the engine found running
 * @returns {Promise<string>} the image's name with the tag of its recipe
 */
export async function buildBaseImage(host) {
  const api = host ? new EngineApi(host) : await findRunningEngine();
  if (!api) throw new SetupError("no container engine answers", { next: "start Docker or Podman, or set DOCKER_HOST" });
  return (await ensureBaseImage(api)).image;
}

if (isEntry(import.meta.url)) {
  await cli(() => step("default image", async (result) => result(await buildBaseImage())));
}
