// @ts-check
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { cleanUp, cleanUpOnSignals } from "./cleanup.mjs";
import { explain } from "./errors.mjs";
import { say } from "./log.mjs";
import { killRunning } from "./run.mjs";

/** @param {string} url `import.meta.url` of a script: was it started, or imported? */
export function isEntry(url) {
  const started = process.argv[1];
  return started !== undefined && realpathSync(started) === fileURLToPath(url);
}

/**
 * Runs a script's main function: errors become text a person can act on, everything started is stopped, and the process
 * ends.
 *
 * @param {(args: string[]) => Promise<number | void>} main returns the exit code, 0 if none
 * @returns {Promise<never>}
 */
export async function cli(main) {
  cleanUpOnSignals();
  let code = 0;
  try {
    code = (await main(process.argv.slice(2))) ?? 0;
  } catch (error) {
    say(`\n${explain(error)}`);
    code = 1;
    killRunning();
  }
  await cleanUp();
  return process.exit(code);
}
