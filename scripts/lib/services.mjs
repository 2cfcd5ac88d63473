// @ts-check
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureBaseImage } from "./base-image.mjs";
import { devDir } from "./dev-dir.mjs";
import { stopKeptEngine, useEngine } from "./engine.mjs";
import { step } from "./log.mjs";
import { startNats } from "./nats.mjs";
import { endProcess, identityOf, isSameProcess } from "./processes.mjs";
import { ensureTestImages } from "./test-images.mjs";

/** @import { Engine } from "./engine.mjs" */

/**
 * @typedef {object} Services
 * @property {Engine} engine
 * @property {string} natsUrl
 * @property {{ DOCKER_HOST: string, NATS_URL: string }} env what a program needs to know to use them
 */

/**
 * Engine with images, and NATS with JetStream. What was started for this is stopped by `cleanUp`, unless `keep`.
 *
 * @param {{ keep?: boolean }} [options]
 * @returns {Promise<Services>}
 */
export async function startServices({ keep = false } = {}) {
  const engine = await step("engine", async (result) => {
    const used = await useEngine({ keep });
    result(used.isPrivate ? `private, ${used.host}` : `found running, ${used.host}`);
    return used;
  });
  const natsUrl = await step("nats-server", async (result) => {
    const url = keep ? await keptNats() : (await startNats()).url;
    result(url);
    return url;
  });
  await step("test images", async (result) => {
    const made = await ensureTestImages(engine.api);
    result(made.length > 0 ? `loaded ${made.length}` : "present");
  });
  await step("default image", async (result) => {
    const { image, how } = await ensureBaseImage(engine.api);
    result(how === "present" ? image : `${image}, made now`);
  });
  return { engine, natsUrl, env: { DOCKER_HOST: engine.host, NATS_URL: natsUrl } };
}

/** Ends what `keep` left running. */
export async function stopServices() {
  await step("nats-server", async (result) => {
    const kept = readKeptNats();
    if (kept) await endProcess(kept.pid, { graceMs: 5_000 });
    rmSync(keptNatsFile(), { force: true });
    result(kept ? "stopped" : "not running");
  });
  await step("engine", async (result) => {
    const outcome = await stopKeptEngine();
    result(outcome === "in use" ? "in use by another run, which stops it at its end" : outcome);
  });
}

async function keptNats() {
  const kept = readKeptNats();
  if (kept) return kept.url;
  const { url, pid } = await startNats({ detached: true, storeDir: join(devDir(), "nats") });
  writeFileSync(keptNatsFile(), JSON.stringify({ url, pid, identity: identityOf(pid) }));
  return url;
}

/** @returns {{ url: string, pid: number } | undefined} */
function readKeptNats() {
  try {
    const kept = JSON.parse(readFileSync(keptNatsFile(), "utf8"));
    return isSameProcess(kept.identity) ? kept : undefined;
  } catch {
    return undefined;
  }
}

function keptNatsFile() {
  return join(devDir(), "nats.json");
}
