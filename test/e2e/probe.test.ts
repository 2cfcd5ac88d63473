import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { startServer } from "../support/server.ts";

/** Clients start servers just to look at them. */
let dir: string;
let listeners: Server[];
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "chorus-probe-"));
  listeners = [];
});
afterEach(() => {
  for (const listener of listeners) listener.close();
  rmSync(dir, { recursive: true, force: true });
});

function listen(at: string | number): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  listeners.push(server);
  return new Promise((resolve) => {
    const done = () => {
      const address = server.address();
      resolve({ port: typeof address === "object" && address ? address.port : 0, connections: () => connections });
    };
    if (typeof at === "number") server.listen(at, "127.0.0.1", done);
    else server.listen(at, done);
  });
}

it("a server that is only looked at touches no engine, no NATS server and no file", async () => {
  const engine = await listen(path.join(dir, "docker.sock"));
  const nats = await listen(0);
  const dataDir = path.join(dir, "data");
  const server = await startServer({
    dataDir,
    env: { DOCKER_HOST: `unix://${path.join(dir, "docker.sock")}`, NATS_URL: `nats://127.0.0.1:${nats.port}` },
  });
  const { tools } = await server.client.listTools();
  expect(tools.length).toBeGreaterThanOrEqual(14);
  const { contents } = await server.client.readResource({ uri: "policy://effective" });
  expect(JSON.stringify(contents)).toContain("memory_mb");
  expect((await server.call("exec_run", { nonsense: true })).error?.code).toBe("INVALID_ARGUMENT");
  expect(existsSync(dataDir)).toBe(false);
  expect(engine.connections()).toBe(0);
  expect(nats.connections()).toBe(0);

  // The first real call does touch them.
  expect((await server.call("sandbox_create")).error?.code).toBe("BACKEND_UNAVAILABLE");
  expect(existsSync(dataDir)).toBe(true);
  expect(engine.connections()).toBeGreaterThan(0);
  await server[Symbol.asyncDispose]();
});

it("a server whose client is gone ends by itself, at once and cleanly", async () => {
  const server = await startServer({ dataDir: path.join(dir, "data") });
  await server.ok("sandbox_list");
  const started = performance.now();
  await server.client.close();
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(() => process.kill(server.pid, 0)).toThrow();
});
