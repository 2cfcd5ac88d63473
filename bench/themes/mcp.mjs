// @ts-check
import { spawn } from "node:child_process";
import { once } from "node:events";
import { INITIALIZE } from "../../scripts/lib/initialize.mjs";
import { atMost } from "../lib/goals.mjs";
import { echoProcess } from "../lib/host.mjs";
import { inTurns, must, timed } from "../lib/measure.mjs";
import { MAIN, serverEnv, withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench */

/** What any program in Node has to do at the least: start, read a line, answer it. */
const EMPTY = "process.stdin.once('data', (line) => process.stdout.write(line))";

/** @type {import("../lib/bench.mjs").Theme} */
export const mcp = {
  name: "mcp",
  title: "The protocol alone",
  async run(bench) {
    await roundTrip(bench);
    await startUp(bench);
  },
};

/** @param {Bench} bench */
async function roundTrip(bench) {
  await withServer({}, async ({ client }) => {
    const ours = await timed("a constant list", bench.samples(300), async () => {
      // Not `listResourceTemplates`, which the client answers from its cache.
      const { resourceTemplates } = await client.request({ method: "resources/templates/list", params: {} });
      must(resourceTemplates.length > 0, "no resource templates");
    });
    const echo = await echoProcess();
    const floor = await timed("a line to Node and back", bench.samples(300), () => echo.ask(`${"x".repeat(100)}\n`));
    await echo.close();
    bench.row({ id: "mcp.noop", what: "MCP round trip that does nothing", ours, floor });
  });
}

/** @param {Bench} bench */
async function startUp(bench) {
  const ways = /** @type {const} */ ([
    ["node dist/main.js", () => firstAnswer([MAIN], INITIALIZE)],
    ["empty Node program", () => firstAnswer(["-e", EMPTY], INITIALIZE)],
  ]);
  const [ours, floor] = await inTurns(bench.samples(20), ways);
  if (ours && floor)
    bench.row({ id: "mcp.start", what: "start → initialize answered", ours, floor, goals: [atMost(250)] });
}

/** Milliseconds from starting a process to the first it says. @param {string[]} args @param {string} line */
async function firstAnswer(args, line) {
  const started = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"], env: serverEnv() });
  child.stdin.write(line);
  const [answer] = await once(child.stdout, "data");
  const ms = performance.now() - started;
  must(String(answer).includes('"jsonrpc":"2.0"'), "no answer to initialize");
  child.stdin.end();
  await once(child, "exit");
  return ms;
}
