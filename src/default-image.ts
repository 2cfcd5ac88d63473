import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { quoted, SandboxError } from "./errors.ts";

const command = "node scripts/build-base-image.mjs";

/**
 * Makes the default image as an operator would, with the package's own script: in a process of its own, since it takes minutes and
 * its tools may print what they like. The engine is the one the environment names.
 */
export async function buildDefaultImage(
  root: string,
  onProgress: (message: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const child = spawn(process.execPath, [path.join(root, "scripts/build-base-image.mjs")], {
    stdio: ["ignore", "ignore", "pipe"],
    signal,
  });
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  let last = "";
  createInterface({ input: child.stderr }).on("line", (line) => {
    if (line.trim() === "") return;
    last = line.trim();
    onProgress(last.slice(0, 200));
  });
  const code = await exited;
  if (code !== 0) {
    throw new SandboxError("IMAGE_NOT_FOUND", `The default image could not be built: ${quoted(last)}`, {
      next: `Run \`${command}\` in ${root} to see why, or name another \`image\`.`,
    });
  }
}
