// @ts-check
import { constants } from "node:os";
import { say } from "./log.mjs";
import { killRunning } from "./run.mjs";

/** What must happen on the way out, whichever way that is: newest first, each once, each with a time limit. */

const LIMIT_MS = 30_000;
/** @type {Array<{ name: string, undo: () => Promise<void> | void }>} */
const pending = [];
/** @type {Promise<void> | undefined} */
let running;
let isLeaving = false;

/**
 * To be called before the thing is started, so that no moment is left in which it could outlive this process.
 *
 * @param {string} name
 * @param {() => Promise<void> | void} undo
 */
export function onExit(name, undo) {
  if (isLeaving) throw new Error(`${name} is not started: this process is on its way out`);
  pending.push({ name, undo });
}

/** @returns {Promise<void>} */
export function cleanUp() {
  running ??= drain().finally(() => {
    running = undefined;
  });
  return running;
}

/** Ctrl-C, a closed terminal and a polite kill all clean up before they end the process. */
export function cleanUpOnSignals() {
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    let seen = false;
    process.on(signal, () => {
      if (seen) process.exit(128 + constants.signals[signal]);
      seen = true;
      isLeaving = true;
      say(`\n${signal}: cleaning up (once more to leave at once)`);
      killRunning();
      cleanUp().finally(() => process.exit(128 + constants.signals[signal]));
    });
  }
}

async function drain() {
  for (let entry = pending.pop(); entry; entry = pending.pop()) {
    const { name, undo } = entry;
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`took longer than ${LIMIT_MS / 1_000} s`)), LIMIT_MS);
    });
    await Promise.race([Promise.resolve().then(undo), late])
      .catch((error) => say(`clean-up of ${name}: ${error.message}`))
      .finally(() => clearTimeout(timer));
  }
}
