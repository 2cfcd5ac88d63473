// @ts-check
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureProgram, findProgram } from "./apt.mjs";
import { onExit } from "./cleanup.mjs";
import { SetupError } from "./errors.mjs";
import { endProcess, send } from "./processes.mjs";
import { tail } from "./run.mjs";

const READY_LIMIT_MS = 15_000;
const STOP_LIMIT_MS = 5_000;

/**
 * @typedef {object} NatsOptions
 * @property {boolean} [jetstream] default true
 * @property {string} [storeDir] where JetStream keeps its files; stays there after `stop`. Default: a temporary folder that goes with the server.
 * @property {number} [port] default: a free one that nobody takes while the server is away. One started again on its old port and store goes on where it was.
 * @property {string} [config] further configuration in the server's own syntax (users, TLS, limits, …)
 * @property {boolean} [detached] outlives this process. Default false.
 */

/**
 * @typedef {object} NatsServer
 * @property {string} url
 * @property {number} port
 * @property {number} pid for signals: SIGKILL it, SIGSTOP it, start another on the same port and store
 * @property {string} storeDir
 * @property {() => string} log
 * @property {() => Promise<void>} stop idempotent; also ends a stopped or dead server
 */

/**
 * Starts a private nats-server on loopback and returns when it takes connections.
 *
 * @param {NatsOptions} [options]
 * @returns {Promise<NatsServer & AsyncDisposable>}
 */
export async function startNats({ jetstream = true, storeDir, port, config = "", detached = false } = {}) {
  const program = await ensureNatsServer();
  const home = mkdtempSync(join(tmpdir(), "chorus-nats-"));
  const store = storeDir ?? join(home, "store");
  mkdirSync(store, { recursive: true });
  const logFile = join(home, "nats.log");
  const configFile = join(home, "nats.conf");
  const own = port ?? (await quietPort());
  writeFileSync(configFile, configuration({ jetstream, store, port: own, home, config }));

  /** @type {import("node:child_process").ChildProcess | undefined} */
  let server;
  let ended = false;
  const read = () => readFileSync(logFile, "utf8");
  const stop = async () => {
    if (server?.pid !== undefined && !ended) {
      // A stopped process hears SIGTERM only when it goes on.
      send(server.pid, "SIGCONT");
      await endProcess(server.pid, { graceMs: STOP_LIMIT_MS });
    }
    rmSync(home, { recursive: true, force: true });
  };
  if (!detached) onExit("nats-server", stop);

  const log = openSync(logFile, "a");
  // A group of its own, so that Ctrl-C reaches this process first and the server ends in order.
  const [command = program, ...args] = detached ? [program] : [...dyingWithUs(), program];
  server = spawn(command, [...args, "-c", configFile], { detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  server.once("exit", () => (ended = true)).once("error", () => (ended = true));
  if (detached) server.unref();

  const url = await readyUrl({ home, hasEnded: () => ended }).catch(async (error) => {
    const said = tail(read());
    await stop();
    throw new SetupError(`nats-server ${error.message}; its log ends with\n${said}`);
  });
  return {
    url,
    port: Number(new URL(url).port),
    pid: server.pid ?? 0,
    storeDir: store,
    log: read,
    stop,
    [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]: stop,
  };
}

/** The path of a nats-server, installed where that is possible. */
export function ensureNatsServer() {
  return ensureProgram("nats-server", ["nats-server"]);
}

/**
 * A wrapper that becomes the server and has the kernel end it when this process dies, even by SIGKILL.
 *
 * @returns {string[]}
 */
function dyingWithUs() {
  const setpriv = findProgram("setpriv");
  return process.platform === "linux" && setpriv ? [setpriv, "--pdeathsig", "TERM"] : [];
}

/**
 * A free port that the kernel gives to no connection of this machine: those it picks for itself begin above.
 *
 * @returns {Promise<number>}
 */
async function quietPort() {
  for (;;) {
    const port = randomInt(10_000, firstPickedPort());
    const probe = createServer().listen(port, "127.0.0.1");
    try {
      await once(probe, "listening");
    } catch {
      continue; // taken
    }
    probe.close();
    await once(probe, "close");
    return port;
  }
}

function firstPickedPort() {
  try {
    return Math.max(11_000, Number.parseInt(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8"), 10));
  } catch {
    return 32_768; // macOS begins above, too
  }
}

/** @param {{ jetstream: boolean, store: string, port: number, home: string, config: string }} options */
function configuration({ jetstream, store, port, home, config }) {
  return [
    `listen: "127.0.0.1:${port}"`,
    `ports_file_dir: ${JSON.stringify(home)}`,
    ...(jetstream ? [`jetstream { store_dir: ${JSON.stringify(store)} }`] : []),
    config,
    "",
  ].join("\n");
}

/**
 * The server tells where it listens in a file of its own, written once it does.
 *
 * @param {{ home: string, hasEnded: () => boolean }} options
 * @returns {Promise<string>}
 */
async function readyUrl({ home, hasEnded }) {
  const deadline = performance.now() + READY_LIMIT_MS;
  for (;;) {
    const file = readdirSync(home).find((name) => name.endsWith(".ports"));
    const url = file && /"((?:nats|tls):\/\/[^"]+)"/.exec(readFileSync(join(home, file), "utf8"))?.[1];
    if (url) return url;
    if (hasEnded()) throw new Error("ended while starting");
    if (performance.now() > deadline) throw new Error(`was not ready within ${READY_LIMIT_MS / 1_000} s`);
    await sleep(10);
  }
}
