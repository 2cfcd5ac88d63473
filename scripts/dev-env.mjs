#!/usr/bin/env node
// @ts-check
/**
 * Engine, images and NATS for whatever a developer wants to run.
 *
 *   node scripts/dev-env.mjs -- npx vitest run test/unit    runs one command, then stops what was started
 *   node scripts/dev-env.mjs --keep                         leaves them running and prints the exports
 *   eval "$(node scripts/dev-env.mjs --export)"             the same, into this shell
 *   node scripts/dev-env.mjs --stop                         ends what --keep or --export left
 */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { onExit } from "./lib/cleanup.mjs";
import { cli } from "./lib/cli.mjs";
import { say } from "./lib/log.mjs";
import { startServices, stopServices } from "./lib/services.mjs";

const USAGE = "usage: node scripts/dev-env.mjs [--keep] -- COMMAND … | --keep | --export | --stop";

/** @param {readonly string[]} args */
async function main(args) {
  const dashes = args.indexOf("--");
  const flags = dashes < 0 ? args : args.slice(0, dashes);
  const [program, ...rest] = dashes < 0 ? [] : args.slice(dashes + 1);
  const keep = flags.includes("--keep") || flags.includes("--export");
  const isKnown = flags.every((flag) => ["--keep", "--export", "--stop"].includes(flag));
  if (!isKnown || (!program && flags.length !== 1)) {
    say(USAGE);
    return 2;
  }
  if (flags.includes("--stop")) {
    await stopServices();
    return 0;
  }
  const { env } = await startServices({ keep });
  if (program) return runCommand(program, rest, { ...process.env, ...env });
  for (const [name, value] of Object.entries(env)) process.stdout.write(`export ${name}='${value}'\n`);
  return 0;
}

/**
 * In this terminal, with its stdin; Ctrl-C reaches it directly.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>}
 */
function runCommand(program, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: "inherit", env });
    // A signal to this process alone does not reach it by itself.
    onExit(program, () => void child.kill());
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
}

await cli(main);
