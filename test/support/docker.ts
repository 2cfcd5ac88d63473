import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { request } from "node:http";
import { fileURLToPath } from "node:url";
import { createLogger } from "../../src/logger.ts";
import type { BackendSpec, SandboxBackend } from "../../src/sandbox/backend.ts";
import { createDockerBackend, type DockerBackendOptions } from "../../src/sandbox/backends/docker/index.ts";
import { newSandboxId } from "../../src/sandbox/ids.ts";

/** The engine tests run against; `npm test` provides it. */
export function testEngineHost(): string {
  const host = process.env["DOCKER_HOST"];
  if (host) return host;
  throw new Error(
    "These tests need a container engine: run `npm test`, or `node scripts/dev-env.mjs` and set DOCKER_HOST to what it prints.",
  );
}

export const testImage = (tag: "busybox" | "hostile" | "scratch"): string => `chorus-sandbox/test:${tag}`;

export function guestBinary(arch: "amd64" | "arm64"): string {
  return fileURLToPath(new URL(`../../dist/guest/chorus-guest-linux-${arch}`, import.meta.url));
}

export const newInstallId = (): string => `test-${randomBytes(6).toString("hex")}`;

export function testBackend(change: Partial<DockerBackendOptions> = {}): SandboxBackend {
  if (!existsSync(guestBinary("amd64")))
    throw new Error("The guest is not built: run `npm test`, or `node scripts/dev-env.mjs`.");
  return createDockerBackend({
    installId: newInstallId(),
    engine: { host: testEngineHost() },
    guestBinary,
    logger: createLogger("silent"),
    ...change,
  });
}

export function testSpec(image_id: string, change: Partial<BackendSpec> = {}): BackendSpec {
  return {
    sandbox_id: newSandboxId(),
    image_id,
    profile: "strict",
    resources: { cpus: 1, memory_mb: 128, pids: 128, workspace_mb: 32 },
    network: "none",
    uid: 20_000 + (randomBytes(2).readUInt16BE() % 40_000),
    boot_lease_ms: 60_000,
    spec_hash: "test",
    ...change,
  };
}

/** A call to the engine beside the backend: what it left there is looked at with other eyes. */
export function rawEngine(method: string, path: string, body?: unknown): Promise<{ status: number; json: unknown }> {
  const socketPath = testEngineHost().replace(/^unix:\/\//, "");
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, method, path: `/v1.41${path}`, headers: { "content-type": "application/json" } },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const json: unknown = /^\s*[[{]/.test(text) ? JSON.parse(text) : text;
          resolve({ status: answer.statusCode ?? 0, json });
        });
      },
    );
    call.on("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
