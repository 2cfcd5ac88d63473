#!/usr/bin/env node
// @ts-check
/**
 * Sets everything up, then measures. Flags go to bench/main.mjs.
 *
 *   npm run bench [-- --quick]
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { bootstrap } from "./bootstrap.mjs";
import { onExit } from "./lib/cleanup.mjs";
import { cli } from "./lib/cli.mjs";
import { heading } from "./lib/log.mjs";
import { ROOT } from "./lib/repository.mjs";

await cli(async (args) => {
  const { env } = await bootstrap();
  heading("Measuring");
  const child = spawn(process.execPath, [join(ROOT, "bench/main.mjs"), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
  onExit("bench", () => void child.kill());
  return new Promise((resolve) => child.once("close", (code) => resolve(code ?? 1)));
});
