#!/usr/bin/env node
// @ts-check
/**
 * The numbers this project is held to, each beside the engine's own call and its physical floor, in one run. A missed number is
 * told and fails nothing; a wrong answer fails the run.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { cli } from "../scripts/lib/cli.mjs";
import { say } from "../scripts/lib/log.mjs";
import { Bench } from "./lib/bench.mjs";
import { writeDocument } from "./lib/document.mjs";
import { describeMachine } from "./lib/machine.mjs";
import { terminalTable, verdict } from "./lib/show.mjs";
import { themes } from "./themes/index.mjs";

/** @typedef {import("./lib/show.mjs").Report} Report */

const USAGE = `usage: npm run bench -- [options]
  --only A,B       of ${themes.map(({ name }) => name).join(", ")}
  --quick          few samples, small sizes: shows that it works, says little about speed
  --sandboxes N    idle sandboxes of the theme density, default 200 (10 with --quick)
  --json FILE      where the report goes, default bench/results/latest.json
  --write          brings docs/performance.md and its plots up to this run; whole runs only
  --from FILE      shows (and with --write writes) an earlier report instead of measuring`;

await cli(async (args) => {
  const options = readOptions(args);
  if (typeof options === "string") {
    say(`${options}\n${USAGE}`);
    return 2;
  }
  const report = options.from === undefined ? await measure(options) : readReport(options.from);
  process.stdout.write(`\n${report.machine.line}\n${terminalTable(report)}\n\n${verdict(report)}\n`);
  if (options.from === undefined) {
    mkdirSync(dirname(options.json), { recursive: true });
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
    say(`\n${options.json}`);
  }
  if (options.write) {
    const whole = !report.options.quick && report.options.only.length === 0 && report.failures.length === 0;
    if (!whole) throw new Error("docs/performance.md is written from a whole run only, without --quick and --only");
    writeDocument(report);
    say("docs/performance.md");
  }
  return report.failures.length > 0 ? 1 : 0;
});

/** @param {Exclude<ReturnType<typeof readOptions>, string>} options @returns {Promise<Report>} */
async function measure({ quick, only, sandboxes }) {
  const started = performance.now();
  const machine = await describeMachine();
  say(machine.line);
  const bench = new Bench({ quick, sandboxes, say });
  const chosen = themes.filter(({ name }) => only.length === 0 || only.includes(name));
  for (const theme of chosen) await bench.run(theme);
  return {
    format: 1,
    machine,
    seconds: (performance.now() - started) / 1_000,
    options: { quick, only, sandboxes },
    themes: chosen.map(({ name, title }) => ({ name, title })),
    rows: bench.rows,
    curves: bench.curves,
    skipped: bench.skipped,
    failures: bench.failures,
  };
}

/** @param {string} file @returns {Report} */
function readReport(file) {
  const report = JSON.parse(readFileSync(file, "utf8"));
  if (report.format !== 1) throw new Error(`${file} is no report of this benchmark`);
  return report;
}

/** @param {string[]} args @returns {string | { quick: boolean, only: string[], sandboxes: number, json: string, write: boolean, from: string | undefined }} or what is wrong */
function readOptions(args) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        only: { type: "string", default: "" },
        quick: { type: "boolean", default: false },
        sandboxes: { type: "string" },
        json: { type: "string", default: join(import.meta.dirname, "results/latest.json") },
        write: { type: "boolean", default: false },
        from: { type: "string" },
      },
    });
    const only = values.only.split(",").filter(Boolean);
    const unknown = only.filter((name) => !themes.some((theme) => theme.name === name));
    if (unknown.length > 0) return `--only: nothing is called ${unknown.join(", ")}`;
    const sandboxes = Number(values.sandboxes ?? (values.quick ? 10 : 200));
    if (!Number.isInteger(sandboxes) || sandboxes < 1 || sandboxes > 1_000) return "--sandboxes: 1 to 1000";
    if (values.write && (values.quick || only.length > 0))
      return "--write: whole runs only, without --quick and --only";
    return { quick: values.quick, only, sandboxes, json: resolve(values.json), write: values.write, from: values.from };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
