import { availableParallelism, homedir, hostname } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ConfigError, loadConfig } from "./config.ts";
import { buildDefaultImage } from "./default-image.ts";
import { createLogger } from "./logger.ts";
import { Runtime } from "./runtime.ts";
import { shownPolicy } from "./sandbox/policy.ts";
import { buildInstructions, redirectConsole, serve } from "./server/index.ts";
import { version } from "./version.ts";

const shutdownMs = 6_000;

function readConfig(): ReturnType<typeof loadConfig> {
  try {
    return loadConfig({ env: process.env, home: homedir(), cpus: availableParallelism() });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(78); // EX_CONFIG of sysexits.h
  }
}

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const config = readConfig();
const logger = createLogger(config.logLevel);
redirectConsole(process.stderr);

const runtime = new Runtime(
  config,
  {
    home: homedir(),
    hostname: hostname(),
    guestDir: path.join(root, "dist/guest"),
    buildDefaultImage: (onProgress, signal) => buildDefaultImage(root, onProgress, signal),
    version,
  },
  logger,
);

const policyView = {
  ...shownPolicy(config.policy),
  image: config.image,
  workdir: "/workspace",
  host_dirs: config.hostDirs,
};
const serving = serve({
  input: process.stdin,
  output: process.stdout,
  sandboxes: () => runtime.sandboxes(),
  preload: () => runtime.preload(),
  policyView,
  // Read by few, so loaded when read.
  eventSchemas: async () => (await import("./events/schemas.ts")).eventSchemas(),
  instructions: buildInstructions(policyView),
  logger,
  version,
  folder: process.cwd(),
  tenant: config.tenant,
});

async function shutDown(why: string): Promise<void> {
  logger.debug({ why }, "shutting down; sandboxes and their commands go on");
  // Whatever hangs, the process ends: the next server finds everything as it is.
  setTimeout(() => process.exit(0), shutdownMs).unref();
  await serving.close();
  await runtime[Symbol.asyncDispose]();
  process.exit(0);
}

process.once("SIGTERM", () => void shutDown("SIGTERM"));
process.once("SIGINT", () => void shutDown("SIGINT"));
process.on("unhandledRejection", (err) => logger.error({ err }, "unhandled rejection"));
void serving.closed.then(() => shutDown("client closed stdin"));
