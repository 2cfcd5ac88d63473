// @ts-check
import { spawn } from "node:child_process";
import { once } from "node:events";
import { pipeline } from "node:stream/promises";
import { duration } from "./log.mjs";

/**
 * @typedef {object} RunOptions
 * @property {number} timeoutMs after this the whole process group is killed; there is no default, so that nothing hangs
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env] the child's whole environment
 * @property {string | Buffer | import("node:stream").Readable} [input]
 * @property {"capture" | "show" | import("node:stream").Writable} [output] `show` passes it through to this process's
 *   own, a stream gets it as it comes. Default `capture`.
 * @property {boolean} [finish] do not kill it on the way out: half done it would leave damage. Default false.
 * @property {boolean} [check] throw when it does not exit with 0. Default true.
 */

/** @typedef {{ code: number | null, signal: string | null, stdout: string, stderr: string, timedOut: boolean }} RunResult */

const CAPTURED_BYTES = 4 * 1024 * 1024;
const TAIL_LINES = 25;
const SHOWN_COMMAND = 200;
/** @type {Set<import("node:child_process").ChildProcess>} */
const alive = new Set();

export class CommandError extends Error {
  /**
   * @param {string} command
   * @param {RunResult} result
   * @param {number} timeoutMs
   */
  constructor(command, result, timeoutMs) {
    const how = result.timedOut
      ? `did not end within ${duration(timeoutMs)}`
      : `ended with ${result.signal ?? `exit code ${result.code}`}`;
    const shown = command.length > SHOWN_COMMAND ? `${command.slice(0, SHOWN_COMMAND)}…` : command;
    super(`${shown} ${how}\n${ends(`${result.stdout}\n${result.stderr}`)}`.trimEnd());
    this.name = "CommandError";
    this.result = result;
  }
}

/**
 * Runs a program to its end. It gets a process group of its own, and all of that group dies with a time-out or with
 * this process.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {RunOptions} options
 * @returns {Promise<RunResult>}
 */
export async function run(
  program,
  args,
  { timeoutMs, cwd, env, input, output = "capture", check = true, finish = false },
) {
  const shown = output === "show";
  const child = spawn(program, [...args], {
    cwd,
    env: env ?? process.env,
    detached: true,
    stdio: [input === undefined ? "ignore" : "pipe", shown ? "inherit" : "pipe", shown ? "inherit" : "pipe"],
  });
  if (!finish) alive.add(child);
  const result = { code: null, signal: null, stdout: "", stderr: "", timedOut: false };
  keep(child.stdout, (text) => (result.stdout = text));
  keep(child.stderr, (text) => (result.stderr = text));
  if (typeof output !== "string")
    for (const stream of [child.stdout, child.stderr]) stream?.pipe(output, { end: false });
  const timer = setTimeout(() => {
    result.timedOut = true;
    killGroup(child);
  }, timeoutMs);
  try {
    const ended = once(child, "close");
    // A program that stops reading early says why with its exit code; EPIPE would only hide it.
    if (child.stdin && input !== undefined) feed(child.stdin, input).catch(() => {});
    [result.code, result.signal] = await ended;
  } finally {
    clearTimeout(timer);
    alive.delete(child);
  }
  if (check && (result.code !== 0 || result.timedOut)) {
    throw new CommandError([program, ...args].join(" "), result, timeoutMs);
  }
  return result;
}

/**
 * Some programs say first what is wrong and then how to use them, others the other way round: keeps both ends.
 *
 * @param {string} text
 */
function ends(text) {
  const lines = text.trim().split("\n");
  const kept = Math.floor(TAIL_LINES / 2);
  if (lines.length <= TAIL_LINES) return lines.join("\n");
  return [...lines.slice(0, kept), `… ${lines.length - 2 * kept} lines …`, ...lines.slice(-kept)].join("\n");
}

/**
 * Lets `killRunning` end a program that `run` did not start.
 *
 * @param {import("node:child_process").ChildProcess} child started detached
 * @returns {() => void} takes it back
 */
export function killable(child) {
  alive.add(child);
  return () => alive.delete(child);
}

/** Kills every program `run` still waits for; for the way out. */
export function killRunning() {
  for (const child of alive) killGroup(child);
}

/**
 * @param {string} text
 * @param {number} [lines]
 */
export function tail(text, lines = TAIL_LINES) {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

/** @param {import("node:child_process").ChildProcess} child */
function killGroup(child) {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It ended by itself in the meantime.
  }
}

/**
 * @param {import("node:stream").Writable} stdin
 * @param {string | Buffer | import("node:stream").Readable} input
 */
async function feed(stdin, input) {
  if (typeof input === "string" || Buffer.isBuffer(input)) stdin.end(input);
  else await pipeline(input, stdin);
}

/**
 * Keeps the newest part of a stream, however much it says.
 *
 * @param {import("node:stream").Readable | null} stream
 * @param {(text: string) => void} update
 */
function keep(stream, update) {
  if (!stream) return;
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk) => {
    text = (text + chunk).slice(-CAPTURED_BYTES);
    update(text);
  });
}
