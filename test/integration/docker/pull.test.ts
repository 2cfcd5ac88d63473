import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SandboxBackend } from "../../../src/sandbox/backend.ts";
import { testBackend } from "../../support/docker.ts";
import { type FakeEngine, fakeEngine } from "../../support/docker-fake-engine.ts";

const digest = `sha256:${"d".repeat(64)}`;
let engine: FakeEngine;
let backend: SandboxBackend;
let present: boolean;
let asked: URL | undefined;
/** What the engine's pull does with its answer. */
let pull: (response: ServerResponse) => void;

beforeEach(async () => {
  present = false;
  engine = await fakeEngine((request, response) => {
    const url = new URL(request.url ?? "", "http://engine");
    if (url.pathname.endsWith("/images/create")) {
      asked = url;
      pull(response);
    } else if (present) {
      response.end(
        JSON.stringify({
          Id: "sha256:x",
          RepoDigests: [`alpine@${digest}`],
          Architecture: "amd64",
          Os: "linux",
          Config: {},
        }),
      );
    } else response.writeHead(404).end(JSON.stringify({ message: "No such image" }));
  });
  backend = testBackend({ engine: { host: engine.host } });
});
afterEach(async () => {
  await backend[Symbol.asyncDispose]();
  await engine.stop();
});

const lines = (...values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");

test("an image the engine lacks is pulled, and its digest known", async () => {
  pull = (response) => {
    present = true;
    response.end(
      lines({ id: "a", status: "Pulling fs layer" }, { id: "a", status: "Pull complete" }, { status: "Status: done" }),
    );
  };
  const told: string[] = [];
  const image = await backend.resolveImage("alpine:3", { onProgress: (message) => told.push(message) });
  expect(image).toEqual({ image: "docker.io/library/alpine:3", image_id: "sha256:x", image_digest: digest });
  expect(Object.fromEntries(asked?.searchParams ?? [])).toEqual({ fromImage: "docker.io/library/alpine", tag: "3" });
  expect(told).toEqual(["Pulling docker.io/library/alpine:3: 0 of 1 layers"]);
});

describe("a pull that fails", () => {
  test.each([
    ["manifest for alpine:9 not found: manifest unknown", "IMAGE_NOT_FOUND"],
    ["pull access denied for x, repository does not exist or may require 'docker login'", "IMAGE_NOT_FOUND"],
    ["dial tcp: lookup registry-1.docker.io: no route to host", "IMAGE_PULL_FAILED"],
    ["unexpected EOF", "IMAGE_PULL_FAILED"],
  ])("with %j is %s, at once or in the middle", async (words, code) => {
    pull = (response) =>
      response.writeHead(code === "IMAGE_NOT_FOUND" ? 404 : 500).end(JSON.stringify({ message: words }));
    await expect(backend.resolveImage("alpine:9")).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words.slice(0, 20)),
    });
    pull = (response) => response.end(lines({ id: "a", status: "Downloading" }, { error: words }));
    await expect(backend.resolveImage("alpine:9")).rejects.toMatchObject({ code, next: expect.any(String) });
  });

  test("because the engine broke off is not mistaken for a pulled image", async () => {
    pull = (response) => {
      response.write(lines({ id: "a", status: "Downloading" }));
      setImmediate(() => response.destroy());
    };
    await expect(backend.resolveImage("alpine")).rejects.toMatchObject({ retryable: true });
  });

  test("because it was cancelled is ABORTED, and the engine is told", async () => {
    const controller = new AbortController();
    const hungUp = new Promise<void>((resolve) => {
      pull = (response) => {
        response.on("close", resolve);
        response.write(lines({ id: "a", status: "Downloading" }));
      };
    });
    const pulling = backend.resolveImage("alpine", { signal: controller.signal, onProgress: () => controller.abort() });
    await expect(pulling).rejects.toMatchObject({ code: "ABORTED" });
    await hungUp;
  });
});
