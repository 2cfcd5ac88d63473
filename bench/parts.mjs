// @ts-check
/** What is measured against each other: a server with its client, and the engine without either. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import Docker from "dockerode";

export const IMAGE = "chorus-sandbox/test:busybox";
const MAIN = join(import.meta.dirname, "../dist/main.js");

/** @param {Record<string, string>} env */
export async function startServer(env) {
  const dataDir = mkdtempSync(join(tmpdir(), "chorus-bench-"));
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [MAIN],
    env: { ...serverEnv(), CHORUS_SANDBOX_DATA_DIR: join(dataDir, "data"), ...env },
    stderr: "ignore",
  });
  const client = new Client({ name: "bench", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  /** @param {string} name @param {Record<string, unknown>} [args] @returns {Promise<Record<string, any>>} */
  const call = async (name, args = {}) => {
    const result = await client.callTool({ name, arguments: args }, { timeout: 120_000 });
    if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.content)}`);
    return /** @type {Record<string, any>} */ (result.structuredContent);
  };
  return {
    client,
    call,
    pid: transport.pid ?? 0,
    async close() {
      await client.close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

function serverEnv() {
  /** @type {Record<string, string>} */
  const env = { CHORUS_SANDBOX_IMAGE: IMAGE, CHORUS_SANDBOX_POOL: "0", LOG_LEVEL: "warn", NATS_URL: "" };
  for (const [key, value] of Object.entries(process.env)) if (value !== undefined && !(key in env)) env[key] = value;
  return env;
}

/** Milliseconds from spawning a server to its answer to a 2025-era `initialize`. */
export async function startUp() {
  const started = performance.now();
  const child = spawn(process.execPath, [MAIN], { stdio: ["pipe", "pipe", "ignore"], env: serverEnv() });
  child.stdin.write(
    `${JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "bench", version: "1" } },
    })}\n`,
  );
  await once(child.stdout, "data");
  const ms = performance.now() - started;
  child.stdin.end();
  await once(child, "exit");
  return ms;
}

export function rawEngine() {
  const host = process.env["DOCKER_HOST"] ?? "";
  if (!host.startsWith("unix://")) throw new Error("DOCKER_HOST names no unix socket: run `npm run bench`");
  return new Docker({ socketPath: host.slice("unix://".length) });
}

/** `docker exec` of `true`, to its end. @param {Docker.Container} container */
export async function rawExec(container) {
  const exec = await container.exec({ Cmd: ["true"], AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: false });
  stream.resume();
  await once(stream, "end");
}

/** What a container was created with, so that the engine can be asked for the very same. @param {Docker.Container} container */
export async function sameOptions(container) {
  const { Config, HostConfig, Image } = await container.inspect();
  const { Hostname: _, ...config } = Config;
  return /** @type {Docker.ContainerCreateOptions} */ ({ ...config, Image, HostConfig });
}

/** Resident set of a process, MiB. @param {number} pid */
export function rssMb(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN) / 1024;
}
