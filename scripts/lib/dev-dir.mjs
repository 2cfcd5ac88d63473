// @ts-check
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { SetupError } from "./errors.mjs";

/** Below it containerd appends up to 30 characters, and a socket's path must fit into 107. */
const LONGEST_RUN_DIR = 60;

/**
 * Where set-up keeps what outlives a run: the private engine with its images, downloads, locks. `CHORUS_DEV_DIR` moves
 * it; everything in it may be deleted while nothing runs.
 */
export function devDir() {
  const { CHORUS_DEV_DIR, XDG_CACHE_HOME } = process.env;
  const root = resolve(CHORUS_DEV_DIR || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "chorus-sandbox"));
  mkdirSync(root, { recursive: true, mode: 0o700 });
  return root;
}

/**
 * A private folder for sockets that belongs to the dev dir: inside it where the path is short enough.
 *
 * @param {string} root
 */
export function runDir(root) {
  const inside = join(root, "run");
  const path =
    inside.length <= LONGEST_RUN_DIR
      ? inside
      : join(tmpdir(), `chorus-sandbox-${createHash("sha256").update(root).digest("hex").slice(0, 12)}`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stat = lstatSync(path);
  // In a shared /tmp somebody else may have put the name there first.
  if (!stat.isDirectory() || (process.getuid && stat.uid !== process.getuid())) {
    throw new SetupError(`${path} does not belong to this user`, {
      next: "set CHORUS_DEV_DIR to a folder of your own",
    });
  }
  return path;
}
