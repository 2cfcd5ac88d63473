// @ts-check
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { SetupError } from "./errors.mjs";
import { note } from "./log.mjs";
import { killable } from "./run.mjs";

/**
 * Holds a lock between processes while `work` runs. The lock is the kernel's (`flock`), held by a child that ends when
 * our end of its stdin closes: however this process dies, nothing stale is left. Where there is no `flock` program
 * (macOS) runs are not guarded against each other; the private engine, which needs it most, exists on Linux only.
 *
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} work
 * @param {{ waitMs?: number }} [options] how long another holder may take. Default 15 minutes.
 * @returns {Promise<T>}
 */
export async function withLock(path, work, { waitMs = 15 * 60_000 } = {}) {
  mkdirSync(dirname(path), { recursive: true });
  const holder = spawn(
    "flock",
    ["-x", "-w", String(Math.ceil(waitMs / 1_000)), path, "sh", "-c", "echo held; exec cat"],
    {
      // A session of its own: Ctrl-C must not take the lock away before the clean-up is through.
      detached: true,
      stdio: ["pipe", "pipe", "ignore"],
    },
  );
  const settled = killable(holder);
  const ended = once(holder, "close").catch(() => []);
  const waiting = setTimeout(() => note("… waiting for another run to finish its set-up"), 2_000);
  try {
    const outcome = await Promise.race([
      once(holder.stdout, "data").then(() => "held"),
      once(holder, "error").then(() => "no flock"),
      ended.then(() => "not held"),
    ]);
    clearTimeout(waiting);
    settled();
    if (outcome === "not held") {
      throw new SetupError(`gave up waiting for another run, which holds ${path}`, { next: "wait for it, or end it" });
    }
    return await work();
  } finally {
    clearTimeout(waiting);
    settled();
    holder.stdin.end();
    await ended;
  }
}
