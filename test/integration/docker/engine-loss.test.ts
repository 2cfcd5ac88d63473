import { once } from "node:events";
import type { RequestListener } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, expect, onTestFinished, test } from "vitest";
import type { EngineFact, SandboxBackend } from "../../../src/sandbox/backend.ts";
import { newSandboxId } from "../../../src/sandbox/ids.ts";
import { newInstallId, testBackend } from "../../support/docker.ts";
import { type FakeEngine, fakeEngine } from "../../support/docker-fake-engine.ts";

const engines: FakeEngine[] = [];
const backends: SandboxBackend[] = [];

afterEach(async () => {
  await Promise.all(backends.splice(0).map((backend) => backend[Symbol.asyncDispose]()));
  await Promise.all(engines.splice(0).map((engine) => engine.stop()));
});

async function engine(answer: RequestListener, port = 0): Promise<FakeEngine> {
  const made = await fakeEngine(answer, port);
  engines.push(made);
  return made;
}

function backendAt(host: string, installId = newInstallId()): SandboxBackend {
  const backend = testBackend({ installId, engine: { host } });
  backends.push(backend);
  return backend;
}

test("an engine that is not there is BACKEND_UNAVAILABLE, and found once it is", async () => {
  const down = await engine(() => {});
  await down.stop();
  const backend = backendAt(down.host);
  await expect(backend.list()).rejects.toMatchObject({
    code: "BACKEND_UNAVAILABLE",
    message: expect.stringContaining(`127.0.0.1:${down.port}`),
  });
  await engine((_, response) => response.end("[]"), down.port);
  expect(await backend.list()).toEqual([]);
  await expect(backendAt("unix:///nonexistent/engine.sock").list()).rejects.toMatchObject({
    code: "BACKEND_UNAVAILABLE",
    next: expect.stringMatching(/DOCKER_HOST/),
  });
});

test("an engine that dies before or in the middle of an answer is BACKEND_UNAVAILABLE", async () => {
  const { host } = await engine((request, response) => {
    if (request.url?.includes("/containers/json")) {
      response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
      response.write('[{"Id":');
      setImmediate(() => response.destroy());
    } else response.destroy();
  });
  await expect(backendAt(host).list()).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
  await expect(backendAt(host).status(newSandboxId())).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
});

test("an engine that never answers is left when the caller cancels", async () => {
  const { host } = await engine(() => {});
  const backend = backendAt(host);
  const controller = new AbortController();
  const listing = backend.list(controller.signal);
  setImmediate(() => controller.abort());
  await expect(listing).rejects.toMatchObject({ code: "ABORTED" });
});

test("an engine that does not answer within a deadline of ours is TIMEOUT, and said to be what is slow", async () => {
  const { host } = await engine(() => {});
  const late = { code: "TIMEOUT", retryable: true, next: expect.stringContaining("docker info") };
  const backend = backendAt(host);
  const message = `The engine at ${host} did not list the sandboxes in time.`;
  await expect(backend.list(AbortSignal.timeout(500))).rejects.toMatchObject({ ...late, message });
  // Shared with others who ask, so it is not the call that is given up but the wait for it.
  await expect(backend.engine(AbortSignal.timeout(20))).rejects.toMatchObject(late);
});

test("what is no engine is BACKEND_UNAVAILABLE or INTERNAL, never a hang", async () => {
  const server = createServer((socket) => socket.end("SSH-2.0-OpenSSH\r\n"));
  onTestFinished(() => void server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await expect(backendAt(`tcp://127.0.0.1:${port}`).engine()).rejects.toMatchObject({
    code: expect.stringMatching(/BACKEND_UNAVAILABLE|INTERNAL/),
  });
});

test("a watch outlives its engine: it says that it reconnected, misses nothing and repeats nothing", async () => {
  const installId = newInstallId();
  const id = newSandboxId();
  const event = (Action: string, timeNano: number) =>
    `${JSON.stringify({ Action, time: Math.floor(timeNano / 1e9), timeNano, Actor: { ID: "c", Attributes: { name: id, exitCode: "137", "dev.chorus.sandbox.install": installId, "dev.chorus.sandbox.id": id } } })}\n`;
  const start = event("start", 1_700_000_000_500_000_000);
  const die = event("die", 1_700_000_001_000_000_000);
  const asked: URL[] = [];
  const first = await engine((request, response) => {
    asked.push(new URL(request.url ?? "", "http://engine"));
    response.writeHead(200);
    response.write(start);
  });
  const controller = new AbortController();
  const watch = backendAt(first.host, installId).watch(controller.signal)[Symbol.asyncIterator]();
  const next = async (): Promise<EngineFact | undefined> => (await watch.next()).value;
  expect(await next()).toEqual({ kind: "started", sandbox_id: id });
  const after = next();
  await first.stop();
  await engine((request, response) => {
    asked.push(new URL(request.url ?? "", "http://engine"));
    response.writeHead(200);
    response.write(start + die);
  }, first.port);
  expect(await after).toEqual({ kind: "reconnected" });
  expect(await next()).toEqual({ kind: "died", sandbox_id: id, exit_code: 137 });
  expect(asked[1]?.searchParams.get("since")).toBe("1700000000.499999000");
  expect(JSON.parse(asked[1]?.searchParams.get("filters") ?? "")).toEqual({
    type: ["container"],
    label: [`dev.chorus.sandbox.install=${installId}`],
  });
  controller.abort();
  expect(await watch.next()).toMatchObject({ done: true });
});
