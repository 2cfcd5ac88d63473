// @ts-check
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { SetupError } from "./errors.mjs";
import { run } from "./run.mjs";

const UPDATE_LIMIT_MS = 3 * 60_000;
const INSTALL_LIMIT_MS = 10 * 60_000;
const ADMIN_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** apt has one lock for all: one call at a time, also within this process. */
let queue = Promise.resolve();
let updated = false;

/** May this process install Debian packages? */
export function canInstall() {
  return process.getuid?.() === 0 && existsSync("/usr/bin/apt-get");
}

/**
 * @param {string} program
 * @returns {string | undefined} its path; the folders of administrators' programs count too, as a user's PATH lacks them
 */
export function findProgram(program) {
  const { PATH = "" } = process.env;
  for (const folder of [...PATH.split(delimiter), ...ADMIN_FOLDERS]) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Next folder.
    }
  }
  return undefined;
}

/**
 * The path of a program, installed first if it is missing.
 *
 * @param {string} program
 * @param {readonly string[]} packages that bring it
 * @returns {Promise<string>}
 */
export async function ensureProgram(program, packages) {
  const install = () => (findProgram(program) ? undefined : aptInstall(packages, program));
  const turn = queue.then(install);
  queue = turn.catch(() => {});
  await turn;
  const found = findProgram(program);
  if (!found) throw new SetupError(`${program} is still missing after installing ${packages.join(" ")}`);
  return found;
}

/**
 * @param {readonly string[]} packages
 * @param {string} program
 */
async function aptInstall(packages, program) {
  if (!canInstall()) {
    throw new SetupError(`${program} is needed and not installed`, {
      next: `install it, on Debian: sudo apt-get install -y --no-install-recommends ${packages.join(" ")}`,
    });
  }
  const options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  if (!updated) await run("apt-get", [...options, "update"], { timeoutMs: UPDATE_LIMIT_MS, env });
  updated = true;
  // Heals an installation that was killed half way; does nothing otherwise.
  await run("dpkg", ["--configure", "-a"], { timeoutMs: INSTALL_LIMIT_MS, env, finish: true, check: false });
  await run("apt-get", [...options, "install", "-y", "--no-install-recommends", ...packages], {
    timeoutMs: INSTALL_LIMIT_MS,
    // Asks the packages not to start services of their own: an engine and a NATS server for the whole machine.
    env: { ...env, RUNLEVEL: "1" },
    finish: true,
  });
}
