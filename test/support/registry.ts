import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../../scripts/lib/apt.mjs";

/** Who may pull and push; the registry has the password as bcrypt of cost 4. */
export const reader = { username: "reader", password: "hunter2-secret-word" };
const htpasswd = "reader:$2y$04$iNfMDqOaq9b9C7koK.vkke5/iwCuQgwpU/2xMW0.2hIOF1Bcc2.n.\n";

export interface TestRegistry extends AsyncDisposable {
  /** As image references name it; the engine takes loopback for trusted. */
  host: string;
}

/** A real registry of our own that lets in nobody but the reader. */
export async function startRegistry(): Promise<TestRegistry> {
  const program = findProgram("docker-registry");
  if (!program) throw new Error("docker-registry is missing: run `npm test`, or `node scripts/bootstrap.mjs`.");
  const folder = mkdtempSync(path.join(tmpdir(), "chorus-registry-"));
  const host = `127.0.0.1:${await freePort()}`;
  writeFileSync(path.join(folder, "htpasswd"), htpasswd);
  const config = {
    version: "0.1",
    log: { level: "error" },
    storage: { filesystem: { rootdirectory: path.join(folder, "data") } },
    http: { addr: host },
    auth: { htpasswd: { realm: "test", path: path.join(folder, "htpasswd") } },
  };
  // JSON is YAML.
  writeFileSync(path.join(folder, "config.yml"), JSON.stringify(config));
  const server = spawn(program, ["serve", path.join(folder, "config.yml")], { stdio: "ignore" });
  const stop = async (): Promise<void> => {
    if (server.exitCode === null && server.signalCode === null) {
      server.kill("SIGKILL");
      await once(server, "exit");
    }
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await ready(server, host);
  } catch (error) {
    await stop();
    throw error;
  }
  return { host, [Symbol.asyncDispose]: stop };
}

async function ready(server: ChildProcess, host: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (performance.now() < deadline && server.exitCode === null) {
    const status = await fetch(`http://${host}/v2/`).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 401) return;
    await sleep(25);
  }
  throw new Error(`the registry at ${host} did not come up`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
