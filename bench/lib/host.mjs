// @ts-check
/** The same work on the host itself: the floors. */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { figure } from "./measure.mjs";

const run = promisify(execFile);

/**
 * Forking and executing /bin/true from a small shell. One is too short to time from here, so each sample is the mean of many.
 *
 * @param {number} samples
 */
export function forkExec(samples) {
  const forks = 40;
  const times = Array.from({ length: samples }, () => {
    const started = performance.now();
    execFileSync("/bin/sh", ["-c", `i=0; while [ $i -lt ${forks} ]; do /bin/true; i=$((i+1)); done`]);
    return (performance.now() - started) / forks;
  });
  return figure("fork + exec", times);
}

/** Milliseconds for so many /bin/true at once. @param {number} count */
export async function forkExecAtOnce(count) {
  const started = performance.now();
  await run("/bin/sh", ["-c", `i=0; while [ $i -lt ${count} ]; do /bin/true & i=$((i+1)); done; wait`]);
  return performance.now() - started;
}

/** Milliseconds for a tree through tar to another folder. @param {string} from @param {string} to */
export async function tarCopy(from, to) {
  rmSync(to, { recursive: true, force: true });
  const started = performance.now();
  await run("/bin/sh", ["-c", 'mkdir "$2" && tar -C "$1" -cf - . | tar -C "$2" -xf -', "sh", from, to]);
  return performance.now() - started;
}

/** A tar stream of a folder or file. @param {string} folder @param {string} name in it */
export function tarOf(folder, name) {
  return spawn("tar", ["-C", folder, "-cf", "-", name], { stdio: ["ignore", "pipe", "inherit"] }).stdout;
}

/** A process of Node that answers each line with the same line. */
export async function echoProcess() {
  const child = spawn(process.execPath, ["-e", "process.stdin.pipe(process.stdout)"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  /** @param {string} line shorter than what a pipe hands over at once */
  const ask = async (line) => {
    const answered = once(child.stdout, "data");
    child.stdin.write(line);
    await answered;
  };
  await ask("\n");
  const close = async () => {
    child.stdin.end();
    await once(child, "exit");
  };
  return { ask, close };
}

/** @template T @param {(folder: string) => Promise<T>} work */
export async function withFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), "chorus-bench-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
