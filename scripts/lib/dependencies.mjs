// @ts-check
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./repository.mjs";
import { CommandError, run } from "./run.mjs";

const INSTALL_LIMIT_MS = 10 * 60_000;

/**
 * Installs what package-lock.json names, unless just that is there.
 *
 * @returns {Promise<string>} what was done
 */
export async function ensureDependencies() {
  if (isCurrent()) return "up to date";
  const npm = (/** @type {string[]} */ ...args) =>
    run("npm", [...args, "--no-audit", "--no-fund"], { cwd: ROOT, timeoutMs: INSTALL_LIMIT_MS });
  try {
    await npm("ci");
    return "installed";
  } catch (error) {
    // npm leaves optional packages for other platforms out of a lock file when its registry lacks them, and refuses that
    // lock file afterwards. What the file does name is still installed in just those versions.
    if (!(error instanceof CommandError) || !/Missing: \S+ from lock file/.test(error.result.stderr)) throw error;
    await npm("install", "--no-save");
    return "installed, though package-lock.json is incomplete";
  }
}

/**
 * npm leaves a lock file of its own in node_modules as the last act of an install, so an interrupted one shows too.
 * Packages for other platforms are in ours and not in npm's.
 */
function isCurrent() {
  const installed = packagesOf(join(ROOT, "node_modules/.package-lock.json"));
  const wanted = packagesOf(join(ROOT, "package-lock.json"));
  if (!installed || !wanted) return false;
  const missing = Object.entries(wanted).some(([path, entry]) => path !== "" && !installed[path] && !entry.optional);
  const differs = Object.entries(installed).some(
    ([path, entry]) => entry.version !== wanted[path]?.version || entry.integrity !== wanted[path]?.integrity,
  );
  return !missing && !differs;
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, integrity?: string, optional?: boolean }> | undefined}
 */
function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch {
    return undefined;
  }
}
