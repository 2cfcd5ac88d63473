import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import type { SandboxBackend } from "../../../src/sandbox/backend.ts";
import type { DockerBackendOptions } from "../../../src/sandbox/backends/docker/index.ts";
import { tar } from "../../../src/sandbox/backends/docker/tar.ts";
import { testBackend, testEngineHost } from "../../support/docker.ts";
import { engine } from "../../support/engine.ts";
import { reader, startRegistry, type TestRegistry } from "../../support/registry.ts";

let registry: TestRegistry;
let repository: string;
let digest: string;
let folder: string;
const backends: SandboxBackend[] = [];

beforeAll(async () => {
  registry = await startRegistry();
  repository = `${registry.host}/private/box`;
  const docker = engine();
  // Of its own content, so that a pull has a layer to fetch.
  const root = tar([{ name: "content", mode: 0o444, content: randomBytes(1024 * 1024) }]);
  await text(await docker.importImage(Readable.from([root]), { repo: repository, tag: "1" }));
  const push = await docker
    .getImage(`${repository}:1`)
    .push({ tag: "1", authconfig: { ...reader, serveraddress: registry.host } });
  digest = await new Promise<string>((resolve, reject) => {
    docker.modem.followProgress(push, (error: Error | null, lines: { aux?: { Digest?: string }; error?: string }[]) => {
      const found = lines?.map(({ aux }) => aux?.Digest).find(Boolean);
      if (found) resolve(found);
      else reject(error ?? new Error(JSON.stringify(lines)));
    });
  });
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
});
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "chorus-docker-config-"));
  await forget();
});
afterEach(async () => {
  for (const backend of backends.splice(0)) await backend[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
  vi.unstubAllEnvs();
  await forget();
});

/** The engine has the image no longer, so that the next use must pull. */
async function forget(): Promise<void> {
  for (const name of [`${repository}:1`, `${repository}@${digest}`])
    await engine()
      .getImage(name)
      .remove()
      .catch(() => {});
}

function backend(config: object, change: Partial<DockerBackendOptions> = {}): SandboxBackend {
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  const made = testBackend({ engine: { host: testEngineHost(), configDir: folder }, ...change });
  backends.push(made);
  return made;
}

/** A credential helper on the server's PATH; what it read lies beside it. */
function helper(script: string): object {
  const file = path.join(folder, "docker-credential-chorustest");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
  return { credHelpers: { [registry.host]: "chorustest" } };
}

const auth = (password: string) => Buffer.from(`${reader.username}:${password}`).toString("base64");
const refusal = async (pulling: Promise<unknown>): Promise<SandboxError> => {
  const error = await pulling.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof SandboxError) return error;
  throw new Error(`expected a SandboxError, got ${inspect(error)}`);
};

test("without credentials the login that is missing is named", async () => {
  const error = await refusal(backend({}).resolveImage(`${repository}:1`));
  expect(error).toMatchObject({
    code: "IMAGE_PULL_FAILED",
    next: expect.stringContaining(`docker login ${registry.host}`),
  });
  expect(error.message).toContain("wants a login");
});

test("the user's login is used, and the digest of what runs is told", async () => {
  const told: string[] = [];
  const image = await backend({ auths: { [registry.host]: { auth: auth(reader.password) } } }).resolveImage(
    `${repository}:1`,
    {
      onProgress: (line) => told.push(line),
    },
  );
  expect(image).toMatchObject({ image: `${repository}:1`, image_digest: digest });
  expect(told.join("\n")).toMatch(/Pulling .* layers/);
});

test("a login filed under a URL is found", async () => {
  const config = { auths: { [`https://${registry.host}/v2/`]: { auth: auth(reader.password) } } };
  expect((await backend(config).resolveImage(`${repository}:1`)).image_digest).toBe(digest);
});

test("a digest is pulled as such", async () => {
  const config = { auths: { [registry.host]: { auth: auth(reader.password) } } };
  const image = await backend(config).resolveImage(`${repository}:1@${digest}`);
  expect(image).toMatchObject({ image: `${repository}:1@${digest}`, image_digest: digest });
});

test("credentials the registry refuses are said to be refused, and shown nowhere", async () => {
  const wrong = "not-the-password";
  const error = await refusal(
    backend({ auths: { [registry.host]: { auth: auth(wrong) } } }).resolveImage(`${repository}:1`),
  );
  expect(error.code).toBe("IMAGE_PULL_FAILED");
  expect(error.message).toContain("refused this user's Docker credentials");
  const all = inspect(error, { depth: 20, showHidden: true });
  expect(all).not.toContain(wrong);
  expect(all).not.toContain(auth(wrong));
});

test("the operator can keep the user's credentials out of it", async () => {
  const config = { auths: { [registry.host]: { auth: auth(reader.password) } } };
  const error = await refusal(backend(config, { registryCredentials: false }).resolveImage(`${repository}:1`));
  expect(error.message).toContain("wants a login");
});

test("a credential helper is asked for the registry by its address", async () => {
  const config = helper(
    `[ "$1" = get ] || exit 3\ncat > "${folder}/asked"\nprintf '{"ServerURL":"x","Username":"%s","Secret":"%s"}' '${reader.username}' '${reader.password}'`,
  );
  expect((await backend(config).resolveImage(`${repository}:1`)).image_digest).toBe(digest);
  expect(readFileSync(path.join(folder, "asked"), "utf8").trim()).toBe(registry.host);
});

test("a helper that has nothing leaves it to the other entries", async () => {
  const config = helper("echo 'credentials not found in native keychain'; exit 1");
  const both = { ...config, auths: { [registry.host]: { auth: auth(reader.password) } } };
  expect((await backend(both).resolveImage(`${repository}:1`)).image_digest).toBe(digest);
});

test.each([
  ["fails", "echo secret-words; exit 7", /ended with 7/],
  ["floods", "exec cat /dev/zero", /more than 65536 bytes/],
  ["babbles", "echo secret-words", /something else than credentials/],
])("a helper that %s is told in our words", async (_how, script, words) => {
  const error = await refusal(backend(helper(script)).resolveImage(`${repository}:1`));
  expect(error).toMatchObject({ code: "IMAGE_PULL_FAILED", message: expect.stringMatching(words) });
  expect(inspect(error, { depth: 20 })).not.toContain("secret-words");
});

test("a helper that hangs goes with the call that waits for it", async () => {
  const config = helper(`echo $$ > "${folder}/pid.new"; mv "${folder}/pid.new" "${folder}/pid"; sleep 1000; true`);
  const stop = new AbortController();
  const pulling = refusal(backend(config).resolveImage(`${repository}:1`, { signal: stop.signal }));
  await vi.waitFor(() => expect(existsSync(path.join(folder, "pid"))).toBe(true), { timeout: 20_000 });
  stop.abort();
  expect((await pulling).code).toBe("ABORTED");
  const pid = readFileSync(path.join(folder, "pid"), "utf8").trim();
  await vi.waitFor(() => expect(aliveIn(pid)).toBe(false), { timeout: 20_000 });
});

const aliveIn = (pid: string): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

test("a helper that is missing is named", async () => {
  const error = await refusal(backend({ credsStore: "chorus-no-such" }).resolveImage(`${repository}:1`));
  expect(error.message).toContain('"chorus-no-such" is not on the server\'s PATH');
});

test("a configuration that is no JSON is named, and not quoted", async () => {
  const made = backend({});
  writeFileSync(path.join(folder, "config.json"), `{"auths":{"x":{"auth":"${auth("oops")}"}`);
  const error = await refusal(made.resolveImage(`${repository}:1`));
  expect(error.message).toContain("config.json");
  expect(inspect(error, { depth: 20 })).not.toContain(auth("oops"));
});

test("the id of an image is no tag of it", async () => {
  const config = { auths: { [registry.host]: { auth: auth(reader.password) } } };
  const one = backend(config);
  const { image_id } = await one.resolveImage(`${repository}:1`);
  const short = image_id.replace("sha256:", "").slice(0, 12);
  expect((await refusal(one.resolveImage(`${repository}:${short}`))).code).toBe("IMAGE_NOT_FOUND");
});
