// @ts-check
import { spawn } from "node:child_process";
import { join } from "node:path";
import { bootstrap } from "../bootstrap.mjs";
import { onExit } from "./cleanup.mjs";
import { heading } from "./log.mjs";
import { ROOT } from "./repository.mjs";

/**
 * Runs a script of this repository on a build, an engine and a nats-server.
 *
 * @param {string} title
 * @param {string} script
 * @param {readonly string[]} args
 * @returns {Promise<number>} its exit code
 */
export async function withServices(title, script, args) {
  const { env } = await bootstrap();
  heading(title);
  const child = spawn(process.execPath, [join(ROOT, script), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
  /** @type {Promise<number>} */
  const ended = new Promise((resolve) => child.once("close", (code) => resolve(code ?? 1)));
  // It removes what it made, and needs the services for that.
  onExit(script, async () => {
    child.kill();
    await ended;
  });
  return ended;
}
