import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { registryAuth } from "../../../src/sandbox/backends/docker/registry-auth.ts";

const basic = (user: string, password: string) => Buffer.from(`${user}:${password}`).toString("base64");

async function sent(config: object, domain: string): Promise<unknown> {
  const folder = mkdtempSync(path.join(tmpdir(), "chorus-auth-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  const auth = await registryAuth(folder, domain, undefined);
  return auth && JSON.parse(Buffer.from(auth.header, "base64url").toString("utf8"));
}

test.each([
  ["ghcr.io", "ghcr.io"],
  ["https://ghcr.io", "ghcr.io"],
  ["https://ghcr.io/v1/", "ghcr.io"],
  ["https://index.docker.io/v1/", "docker.io"],
])("a login filed under %s is sent to %s", async (key, domain) => {
  expect(await sent({ auths: { [key]: { auth: basic("ann", "a:b/ÿ") } } }, domain)).toEqual({
    username: "ann",
    password: "a:b/ÿ",
    serveraddress: domain === "docker.io" ? "https://index.docker.io/v1/" : domain,
  });
});

test("no registry gets another one's login", async () => {
  const config = { auths: { "ghcr.io": { auth: basic("ann", "x") } }, credHelpers: {} };
  // Names of what every object has come from agents as well.
  for (const domain of ["docker.io", "ghcr.io:443", "evil.io", "xghcr.io", "toString", "hasOwnProperty", "localhost"])
    expect(await sent(config, domain), domain).toBeUndefined();
});

test("a token goes without the password beside it", async () => {
  const token = { auth: basic("ann", ""), identitytoken: "refresh" };
  expect(await sent({ auths: { "a.io": token } }, "a.io")).toEqual({
    username: "ann",
    identitytoken: "refresh",
    serveraddress: "a.io",
  });
});

test("an empty entry, which a credential store leaves behind, is none", async () => {
  expect(await sent({ auths: { "a.io": {} } }, "a.io")).toBeUndefined();
  expect(await registryAuth("/no/such/folder", "a.io", undefined)).toBeUndefined();
});
