#!/usr/bin/env node
// @ts-check
/**
 * `npm test`: sets everything up, then runs the tests of the server and of the guest. The last line counts both.
 *
 *   npm test                             everything
 *   npm test -- test/unit/policy.test.ts arguments go to vitest, and the rest is left out
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import { bootstrap, testPrograms } from "./bootstrap.mjs";
import { findProgram } from "./lib/apt.mjs";
import { cleanUp, onExit } from "./lib/cleanup.mjs";
import { cli } from "./lib/cli.mjs";
import { explain } from "./lib/errors.mjs";
import { heading, note, say } from "./lib/log.mjs";
import { GUEST_SOURCE, ROOT } from "./lib/repository.mjs";
import { killRunning, run } from "./lib/run.mjs";
import { countsLine, goTestReader, sum, vitestCounts } from "./lib/test-reports.mjs";

const GO_LIMIT_MS = 15 * 60_000;
const VITEST_LIMIT_MS = 30 * 60_000;
const CHAOS_LIMIT_MS = 17 * 60_000;
/** What needs the machine to itself: it kills, floods and stops the clocks of many processes at once. */
const CHAOS = "test/chaos";

await cli(async (args) => {
  const counts = await runTests(args).catch((error) => {
    say(`\n${explain(error)}`);
    killRunning();
    return { passed: 0, failed: 1, skipped: 0 };
  });
  // First, so that nothing of the clean-up follows the line that counts.
  await cleanUp();
  process.stdout.write(`\n${countsLine(counts)}\n`);
  return counts.failed > 0 ? 1 : 0;
});

/** @param {readonly string[]} args */
async function runTests(args) {
  const { env } = await bootstrap();
  await testPrograms();
  // Colours are for terminals; vitest thinks that every CI has one.
  const own = { ...process.env, ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }), ...env };
  if (args.length > 0) return serverTests("Tests of the server", args, own, VITEST_LIMIT_MS);
  return sum([
    await guestTests(own),
    await serverTests("Tests of the server", ["--exclude", `${CHAOS}/**`], own, VITEST_LIMIT_MS),
    await serverTests("Tests under chaos", [CHAOS, "--no-file-parallelism"], own, CHAOS_LIMIT_MS),
  ]);
}

/**
 * @param {string} title
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {number} timeoutMs
 */
async function serverTests(title, args, env, timeoutMs) {
  heading(title);
  const folder = mkdtempSync(join(tmpdir(), "chorus-tests-"));
  // What tests leave behind goes with it.
  const scratch = join(folder, "tmp");
  mkdirSync(scratch);
  onExit("the test report", () => rmSync(folder, { recursive: true, force: true }));
  const report = join(folder, "vitest.json");
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const { code } = await run(process.execPath, [vitest, "run", ...reporters, ...args], {
    cwd: ROOT,
    env: { ...env, TMPDIR: scratch },
    timeoutMs,
    output: "show",
    check: false,
  });
  return vitestCounts(report, code === 0);
}

/** @param {NodeJS.ProcessEnv} env */
async function guestTests(env) {
  heading("Tests of the guest");
  // The race detector is C.
  const race = findProgram("gcc") || findProgram("clang") ? ["-race"] : [];
  if (race.length === 0) note("without the race detector: it needs a C compiler (apt-get install gcc libc6-dev)");
  const reader = goTestReader((text) => process.stdout.write(`${text}\n`));
  const lines = new PassThrough();
  const read = (async () => {
    for await (const line of createInterface({ input: lines })) reader.read(line);
  })();
  // Its own limit comes first: it says which test hangs, and where.
  const { code } = await run("go", ["test", ...race, "-timeout=14m", "-json", "./..."], {
    cwd: GUEST_SOURCE,
    env: { ...env, GOTOOLCHAIN: "local", CGO_ENABLED: race.length > 0 ? "1" : "0" },
    timeoutMs: GO_LIMIT_MS,
    output: lines,
    check: false,
  });
  lines.end();
  await read;
  return reader.counts(code === 0);
}
