#!/usr/bin/env node
// @ts-check
/**
 * One server in use for long, with real sandboxes and NATS, looked at again and again. Ends with what grew; exits with 1 when
 * something grew beyond its bound or an answer was wrong.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { cli } from "../scripts/lib/cli.mjs";
import { say } from "../scripts/lib/log.mjs";
import { engine, hostPid } from "./lib/engine.mjs";
import { withFolder } from "./lib/host.mjs";
import { describeMachine } from "./lib/machine.mjs";
import { eventually, must, parallel } from "./lib/measure.mjs";
import { withNats } from "./lib/nats.mjs";
import { descriptors, rssMb } from "./lib/proc.mjs";
import { SMALL, withServer } from "./lib/server.mjs";
import { findings } from "./soak/verdict.mjs";
import { command } from "./soak/work.mjs";

/** @typedef {import("./soak/verdict.mjs").Look} Look @typedef {import("./lib/server.mjs").Server} Server */

const USAGE = "usage: npm run soak -- [--execs 100000] [--creates 1000] [--looks 40] [--at-once 4] [--pool 0]";
/** Sandboxes that come and go, beside the one that stays. */
const CHANGING = 4;

await cli(async (args) => {
  const options = readOptions(args);
  if (options === undefined) {
    say(USAGE);
    return 2;
  }
  const machine = await describeMachine();
  say(`${machine.line}\n${options.execs} execs, ${options.creates} creates, ${options.atOnce} calls at once`);
  const looks = await withFolder((folder) =>
    withNats(({ url }) => {
      const memoryFile = join(folder, "memory.json");
      const env = { CHORUS_SANDBOX_POOL: String(options.pool), NATS_URL: url, BENCH_MEMORY_FILE: memoryFile };
      const preload = join(import.meta.dirname, "soak/gc.mjs");
      return withServer({ env, preload }, (server) => soak(server, memoryFile, options));
    }),
  );
  const found = findings(looks);
  for (const { what, grown, bound, ok } of found) {
    process.stdout.write(`${ok ? "✓" : "✗ GROWS"} ${what}: ${grown} (${bound})\n`);
  }
  const results = join(import.meta.dirname, "results");
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, "soak.json"), `${JSON.stringify({ machine, options, looks, found }, null, 2)}\n`);
  return found.every(({ ok }) => ok) ? 0 : 1;
});

/** @param {Server} server @param {string} memoryFile @param {{ execs: number, creates: number, looks: number, atOnce: number, pool: number }} options */
async function soak(server, memoryFile, { execs, creates, looks, atOnce, pool }) {
  const elder = (await server.create({ ...SMALL, ttl_s: 86_400 }))["sandbox_id"];
  const elderPid = await hostPid(elder);
  /** @type {string[]} */
  const changing = [];
  let created = 1;
  /** The oldest goes, a new one comes. */
  const change = async () => {
    created += 1;
    const oldest = changing.length >= CHANGING ? changing.shift() : undefined;
    const { sandbox_id: fresh } = await server.create(SMALL);
    if (oldest !== undefined) await server.destroy(oldest);
    changing.push(fresh);
  };
  while (changing.length < CHANGING) await change();
  const look = looker(server, memoryFile, elderPid, () => 1 + changing.length + pool);
  /** @type {Look[]} */
  const seen = [await look(0, created)];
  for (let at = 1; at <= looks; at++) {
    const [from, to] = [at - 1, at].map((part) => Math.round((execs * part) / looks));
    const changes = Math.round((creates * at) / looks) - created;
    const working = parallel((to ?? 0) - (from ?? 0), atOnce, (i) => {
      // Half of all in the one that stays. One that changes is never taken while it may go: only the newest.
      const id = i % 2 === 0 ? elder : (changing.at(-1) ?? elder);
      return command(server, id, (from ?? 0) + i);
    });
    await Promise.all([working, parallel(Math.max(0, changes), 1, change)]);
    seen.push(await look(to ?? 0, created));
  }
  await server.destroyAll();
  await eventually("no container of this server is left", async () => (await containers(server)) <= pool);
  return seen;
}

/** @param {Server} server @param {string} memoryFile @param {number} elderPid @param {() => number} living */
function looker(server, memoryFile, elderPid, living) {
  let since = performance.now();
  let before = 0;
  let lines = 0;
  /** @param {number} execs @param {number} creates @returns {Promise<Look>} */
  return async (execs, creates) => {
    const perS = ((execs - before) * 1_000) / (performance.now() - since);
    // What the last calls left to do (removals, the relay) is not growth.
    await delay(500);
    const { Volumes: volumes } = await engine().listVolumes();
    const look = {
      execs,
      creates,
      heap_mb: await memoryInUse(server.pid, memoryFile),
      anon_mb: rssMb(server.pid, "RssAnon"),
      rss_mb: rssMb(server.pid),
      fds: descriptors(server.pid),
      store_mb: diskMb(server.dataDir),
      containers: (await containers(server)) - living(),
      volumes: volumes.length,
      guest_mb: rssMb(elderPid),
      per_s: perS,
    };
    if (lines++ % 20 === 0)
      say(
        `\n${Object.keys(look)
          .map((name) => name.padStart(10))
          .join(" ")}`,
      );
    say(
      Object.values(look)
        .map((value) => String(Math.round(value * 10) / 10).padStart(10))
        .join(" "),
    );
    since = performance.now();
    before = execs;
    return look;
  };
}

/** Objects and buffers of a server after it collected garbage, in MiB. @param {number} pid @param {string} file */
async function memoryInUse(pid, file) {
  rmSync(file, { force: true });
  process.kill(pid, "SIGUSR2");
  await eventually("the server tells its memory", () => existsSync(file));
  const { heapUsed, external } = JSON.parse(readFileSync(file, "utf8"));
  return (heapUsed + external) / 2 ** 20;
}

/** @param {Server} server */
async function containers(server) {
  return (await engine().listContainers({ all: true, filters: { label: [server.label()] } })).length;
}

/** What a folder takes on the disk. @param {string} folder */
function diskMb(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  // In blocks of 512 bytes, since a file may have holes.
  return files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512, 0) / 2 ** 20;
}

/** @param {string[]} args */
function readOptions(args) {
  try {
    const whole = { type: /** @type {const} */ ("string") };
    const options = { execs: whole, creates: whole, looks: whole, "at-once": whole, pool: whole };
    const { values } = parseArgs({ args, options });
    const read = {
      execs: Number(values.execs ?? 100_000),
      creates: Number(values.creates ?? 1_000),
      looks: Number(values.looks ?? 40),
      atOnce: Number(values["at-once"] ?? 4),
      pool: Number(values.pool ?? 0),
    };
    for (const [name, value] of Object.entries(read)) {
      must(Number.isInteger(value) && value >= (name === "pool" ? 0 : 1), `--${name} ${value}`);
    }
    must(read.looks >= 5, "--looks: at least 5");
    return read;
  } catch {
    return undefined;
  }
}
