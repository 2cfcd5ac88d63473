#!/usr/bin/env node
// @ts-check
/**
 * From a bare clone to everything the demo, the tests and the benchmark need.
 *
 *   node scripts/bootstrap.mjs            programs, dependencies, build, guest; then whether the services come up
 *   node scripts/bootstrap.mjs --build    without services
 *   node scripts/bootstrap.mjs --deps     only what `npm run check` needs
 */
import { checkPrograms, ensureTestPrograms } from "./lib/checks.mjs";
import { cli, isEntry } from "./lib/cli.mjs";
import { ensureDependencies } from "./lib/dependencies.mjs";
import { ensureGuest } from "./lib/guest.mjs";
import { withLock } from "./lib/lock.mjs";
import { heading, say, step } from "./lib/log.mjs";
import { BUILD_LOCK, ROOT } from "./lib/repository.mjs";
import { killRunning, run } from "./lib/run.mjs";
import { startServices } from "./lib/services.mjs";

/** @import { Services } from "./lib/services.mjs" */

const BUILD_LIMIT_MS = 5 * 60_000;

/** Programs, node_modules, dist and the guest. */
export async function build() {
  await dependencies();
  await withLock(BUILD_LOCK, async () => {
    await step("build", async (result) => {
      await run("npm", ["run", "--silent", "build"], { cwd: ROOT, timeoutMs: BUILD_LIMIT_MS });
      result("dist");
    });
    await step("guest", async (result) => result(await ensureGuest()));
  });
}

/**
 * Everything: `build`, then engine, images and nats-server. Call `cleanUp` from lib/cleanup.mjs at the end.
 *
 * @returns {Promise<Services>}
 */
export async function bootstrap() {
  heading("Setting up");
  // The services come first: they need nothing of the build, and a machine without an engine should hear so at once.
  const services = startServices();
  const built = build();
  try {
    const [outcome] = await Promise.all([services, built]);
    return outcome;
  } catch (error) {
    killRunning();
    await Promise.allSettled([services, built]);
    throw error;
  }
}

/** Programs that only the tests use. */
export async function testPrograms() {
  await step("test programs", async (result) => result(await ensureTestPrograms()));
}

async function dependencies() {
  await step("programs", async (result) => result(await checkPrograms()));
  await withLock(BUILD_LOCK, () => step("dependencies", async (result) => result(await ensureDependencies())));
}

if (isEntry(import.meta.url)) {
  await cli(async ([flag]) => {
    if (flag === "--deps") await dependencies();
    else if (flag === "--build") await build();
    else {
      await bootstrap();
      await testPrograms();
      say("\nEverything is there.");
    }
  });
}
