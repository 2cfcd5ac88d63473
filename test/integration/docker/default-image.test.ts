import { afterEach, beforeEach, expect, test } from "vitest";
import type { SandboxBackend } from "../../../src/sandbox/backend.ts";
import { testBackend } from "../../support/docker.ts";
import { type FakeEngine, fakeEngine } from "../../support/docker-fake-engine.ts";

const name = "chorus-sandbox/base";
let backend: SandboxBackend;
let builds: { tell: (message: string) => void; signal: AbortSignal; finish: (error?: Error) => void }[];
let begun: () => void;

let engine: FakeEngine;
let built = false;
let building: Promise<void>;

beforeEach(async () => {
  built = false;
  builds = [];
  building = new Promise((resolve) => {
    begun = resolve;
  });
  // Without the image until it was built.
  engine = await fakeEngine((_, response) => {
    if (built) response.end(JSON.stringify({ Id: "sha256:x", Architecture: "amd64", Os: "linux", Config: {} }));
    else response.writeHead(404).end(JSON.stringify({ message: `No such image: ${name}` }));
  });
  backend = testBackend({
    engine: { host: engine.host },
    defaultImage: {
      name,
      build: (tell, signal) =>
        new Promise((resolve, reject) => {
          signal.addEventListener("abort", () => reject(new Error("stopped")));
          const finish = (error?: Error) => {
            built = error === undefined;
            if (error) reject(error);
            else resolve();
          };
          builds.push({ tell, signal, finish });
          tell("first step");
          begun();
        }),
    },
  });
});
afterEach(async () => {
  await backend[Symbol.asyncDispose]();
  await engine.stop();
});

test("is built once for all who ask, tells each how far it is, and goes on when one gives up", async () => {
  const told: string[] = [];
  const leaving = new AbortController();
  const left = backend.resolveImage(name, { signal: leaving.signal });
  const staying = backend.resolveImage(`docker.io/${name}:latest`, { onProgress: (message) => told.push(message) });
  await building;
  leaving.abort();
  await expect(left).rejects.toMatchObject({ code: "ABORTED" });
  expect(builds[0]?.signal.aborted).toBe(false);
  builds[0]?.tell("second step");
  builds[0]?.finish();
  expect(await staying).toEqual({ image: `docker.io/${name}:latest`, image_id: "sha256:x" });
  expect(told.at(-1)).toBe("second step");
  expect(builds).toHaveLength(1);
});

test("is no longer built when all who asked have given up, and is built anew for the next", async () => {
  const leaving = new AbortController();
  const left = backend.resolveImage(name, { signal: leaving.signal });
  await building;
  leaving.abort();
  await expect(left).rejects.toMatchObject({ code: "ABORTED" });
  expect(builds[0]?.signal.aborted).toBe(true);
  const again = backend.resolveImage(name);
  await expect.poll(() => builds.length, { timeout: 20_000 }).toBe(2);
  builds[1]?.finish();
  expect(await again).toMatchObject({ image_id: "sha256:x" });
});

test("that cannot be built says so, and may be tried again", async () => {
  const failing = backend.resolveImage(name);
  await building;
  builds[0]?.finish(new Error("no disk"));
  await expect(failing).rejects.toMatchObject({
    code: "IMAGE_PULL_FAILED",
    retryable: true,
    message: expect.stringContaining(name),
  });
});
