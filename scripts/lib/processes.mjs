// @ts-check
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Processes by identity, not by number: a pid is reused, a pid with its start time is not. */

/**
 * @param {number} pid
 * @returns {string | undefined} `pid:start time`, undefined if there is no such process (or only its zombie)
 */
export function identityOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces and parentheses itself: count from its end.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : `${pid}:${fields[19]}`;
  } catch {
    if (process.platform === "linux") return undefined;
    return isAlive(pid) ? `${pid}:0` : undefined;
  }
}

/** @param {string} identity */
export function isSameProcess(identity) {
  return identityOf(Number(identity.split(":")[0])) === identity;
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === "EPERM";
  }
}

/**
 * @param {(process: { pid: number, program: string, args: string[] }) => boolean} matches
 * @returns {number[]} Linux only; elsewhere empty
 */
export function findProcesses(matches) {
  return allPids().filter((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const program = basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
      return pid !== process.pid && matches({ pid, program, args });
    } catch {
      return false;
    }
  });
}

/**
 * @param {readonly number[]} roots
 * @returns {number[]} the roots and everything below them
 */
export function withDescendants(roots) {
  /** @type {Map<number, number[]>} */
  const children = new Map();
  for (const pid of allPids()) {
    const parent = parentOf(pid);
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = new Set(roots);
  for (const pid of found) for (const child of children.get(pid) ?? []) found.add(child);
  return [...found];
}

/**
 * Sends a signal and waits until the process is gone; after `graceMs` it is killed.
 *
 * @param {number} pid
 * @param {{ signal?: NodeJS.Signals, graceMs: number }} options
 */
export async function endProcess(pid, { signal = "SIGTERM", graceMs }) {
  const identity = identityOf(pid);
  if (!identity) return;
  send(pid, signal);
  if (await gone(identity, graceMs)) return;
  send(pid, "SIGKILL");
  await gone(identity, 5_000);
}

/**
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function send(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already.
  }
}

/**
 * @param {string} identity
 * @param {number} withinMs
 */
async function gone(identity, withinMs) {
  const deadline = performance.now() + withinMs;
  while (isSameProcess(identity)) {
    if (performance.now() > deadline) return false;
    await sleep(25);
  }
  return true;
}

function allPids() {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

/** @param {number} pid */
function parentOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return undefined;
  }
}
