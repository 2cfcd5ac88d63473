// @ts-check
/** A server from dist/ with a real client on its stdio, and what is left of both afterwards: nothing. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { onExit } from "../../scripts/lib/cleanup.mjs";
import { engine, IMAGE, removeByLabel } from "./engine.mjs";
import { must, parallel } from "./measure.mjs";

/**
 * @typedef {Record<string, any>} Answer structuredContent of a tool
 * @typedef {Awaited<ReturnType<typeof startServer>>} Server
 */

export const MAIN = join(import.meta.dirname, "../../dist/main.js");
const INSTALL = "dev.chorus.sandbox.install";
/** The least that still makes a sandbox, for when there are many. */
export const SMALL = { cpus: 1, memory_mb: 16, pids: 64, workspace_mb: 1 };

/**
 * @param {{ env?: Record<string, string>, policy?: unknown, preload?: string }} [options] preload: a module loaded before the server's own
 */
export async function startServer({ env = {}, policy, preload } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "chorus-bench-"));
  const dataDir = join(folder, "data");
  if (policy !== undefined) writeFileSync(join(folder, "policy.json"), JSON.stringify(policy));
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [...(preload === undefined ? [] : ["--import", preload]), MAIN],
    env: serverEnv({
      CHORUS_SANDBOX_DATA_DIR: dataDir,
      ...(policy !== undefined && { CHORUS_SANDBOX_POLICY: join(folder, "policy.json") }),
      ...env,
    }),
    stderr: "inherit",
  });
  const client = new Client({ name: "bench", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  /** @type {Set<string>} */
  const live = new Set();
  /** @type {string | undefined} */
  let install;

  /** @param {string} name @param {Answer} [args] @param {Parameters<Client["callTool"]>[1]} [options] @returns {Promise<Answer>} */
  const call = async (name, args = {}, options = {}) => {
    const result = await client.callTool({ name, arguments: args }, { timeout: 120_000, ...options });
    if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.content)}`);
    return /** @type {Answer} */ (result.structuredContent);
  };

  const server = {
    client,
    call,
    dataDir,
    pid: 0,
    /** @param {Answer} [args] */
    async create(args = {}) {
      const sandbox = await call("sandbox_create", { wait_s: 50, ...args });
      live.add(sandbox["sandbox_id"]);
      must(sandbox["state"] === "running", `a new sandbox is ${sandbox["state"]}`);
      install ??= await installOf(sandbox["sandbox_id"]);
      return sandbox;
    },
    /** @param {string} id */
    async destroy(id) {
      await call("sandbox_destroy", { sandbox_id: id });
      live.delete(id);
    },
    async destroyAll() {
      const ids = [...live];
      await parallel(ids.length, 8, async (i) => server.destroy(ids[i] ?? ""));
    },
    /** `true`, and that it was. @param {string} id */
    async runTrue(id) {
      const exec = await call("exec_run", { sandbox_id: id, argv: ["true"] });
      must(exec["exit_code"] === 0, `true exited with ${exec["exit_code"]}`);
      return exec;
    },
    /** The engine's label on everything of this server. */
    label: () => `${INSTALL}=${install}`,
    /** @type {() => Promise<void>} */
    close: once(async () => {
      await server.destroyAll().catch(() => {});
      await client.close().catch(() => {});
      // Warm sandboxes wait on for a while after the last server.
      if (install !== undefined) await removeByLabel(server.label());
      rmSync(folder, { recursive: true, force: true });
    }),
  };
  onExit("a server of the bench", server.close);
  await client.connect(transport);
  server.pid = transport.pid ?? 0;
  return server;
}

/**
 * @template T
 * @param {Parameters<typeof startServer>[0]} options
 * @param {(server: Server) => Promise<T>} work
 */
export async function withServer(options, work) {
  const server = await startServer(options);
  try {
    return await work(server);
  } finally {
    await server.close();
  }
}

/** No warm sandboxes and no NATS unless asked for. @param {Record<string, string>} [own] */
export function serverEnv(own = {}) {
  const inherited = Object.entries(process.env).filter(
    /** @returns {pair is [string, string]} */ (pair) =>
      pair[1] !== undefined && !pair[0].startsWith("CHORUS_SANDBOX_") && !pair[0].startsWith("NATS_"),
  );
  return {
    ...Object.fromEntries(inherited),
    CHORUS_SANDBOX_IMAGE: IMAGE,
    CHORUS_SANDBOX_POOL: "0",
    LOG_LEVEL: "error",
    ...own,
  };
}

/** @param {string} sandboxId */
async function installOf(sandboxId) {
  const { Config } = await engine().getContainer(sandboxId).inspect();
  return Config.Labels[INSTALL];
}

/** @template T @param {() => Promise<T>} work */
function once(work) {
  /** @type {Promise<T> | undefined} */
  let done;
  return () => (done ??= work());
}
