import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { discoverEngine, type EngineSettings, knownSockets } from "../../../src/sandbox/backends/docker/discover.ts";

const home = "/home/ann";
const sha = (text: string) => createHash("sha256").update(text).digest("hex");

function discover(
  settings: EngineSettings,
  files: Record<string, string> = {},
  sockets: Record<string, undefined | string> = {},
) {
  const probed: string[] = [];
  const address = discoverEngine(settings, {
    home,
    uid: 1000,
    read: async (path) => (files[path] === undefined ? undefined : Buffer.from(files[path])),
    probe: async (path) => {
      probed.push(path);
      return path in sockets ? sockets[path] : "ENOENT";
    },
  });
  return { address, probed };
}

function contextFiles(name: string, docker: object): Record<string, string> {
  return {
    [`${home}/.docker/config.json`]: JSON.stringify({ currentContext: name }),
    [`${home}/.docker/contexts/meta/${sha(name)}/meta.json`]: JSON.stringify({ Name: name, Endpoints: { docker } }),
  };
}

describe("an explicit host", () => {
  test.each([
    ["unix:///run/x.sock", { endpoint: "unix:///run/x.sock", socketPath: "/run/x.sock" }],
    ["tcp://10.0.0.1:4000", { endpoint: "tcp://10.0.0.1:4000", host: "10.0.0.1", port: 4000 }],
    ["10.0.0.1:4000", { endpoint: "tcp://10.0.0.1:4000", host: "10.0.0.1", port: 4000 }],
    ["tcp://engine", { endpoint: "tcp://engine:2375", host: "engine", port: 2375 }],
    ["http://engine:80", { endpoint: "tcp://engine:80", host: "engine", port: 80 }],
    ["tcp://[::1]:2375", { endpoint: "tcp://[::1]:2375", host: "::1", port: 2375 }],
  ])("%s is taken without asking", async (host, expected) => {
    const { address, probed } = discover({ host });
    expect(await address).toEqual({ found: "DOCKER_HOST", ...expected });
    expect(probed).toEqual([]);
  });

  test("is spoken to with TLS when the environment says so, with the certificates of its folder", async () => {
    const files = { "/certs/ca.pem": "CA", "/certs/cert.pem": "CERT", "/certs/key.pem": "KEY" };
    const { address } = discover({ host: "tcp://engine", tlsVerify: true, certPath: "/certs" }, files);
    expect(await address).toMatchObject({
      endpoint: "https://engine:2376",
      port: 2376,
      tls: { ca: Buffer.from("CA"), cert: Buffer.from("CERT"), key: Buffer.from("KEY"), verify: true },
    });
  });

  test("https:// means TLS, with the port as written", async () => {
    expect(await discover({ host: "https://engine:443" }).address).toMatchObject({ port: 443, tls: { verify: true } });
  });

  test.each([
    "ssh://me:secret@host",
    "npipe:////./pipe/docker_engine",
    "tcp://",
    "unix://relative",
    "ftp://x",
    "not a host",
  ])("%s is refused with a next step and without its password", async (host) => {
    const failure = await discover({ host }).address.catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: false });
    expect(failure).toHaveProperty("next", expect.stringMatching(/unix:\/\//));
    expect(String(failure)).not.toContain("secret");
  });
});

describe("a Docker context", () => {
  test("is used when the CLI uses it", async () => {
    const { address, probed } = discover({}, contextFiles("colima", { Host: "unix:///colima.sock" }));
    expect(await address).toEqual({
      endpoint: "unix:///colima.sock",
      found: 'Docker context "colima"',
      socketPath: "/colima.sock",
    });
    expect(probed).toEqual([]);
  });

  test("named by DOCKER_CONTEXT comes before the current one, and DOCKER_HOST before both", async () => {
    const files = {
      ...contextFiles("b", { Host: "unix:///b.sock" }),
      ...contextFiles("a", { Host: "unix:///a.sock" }),
    };
    expect(await discover({ context: "b" }, files).address).toMatchObject({ socketPath: "/b.sock" });
    expect(await discover({ context: "b", host: "unix:///c.sock" }, files).address).toMatchObject({
      socketPath: "/c.sock",
    });
  });

  test("brings its own certificates", async () => {
    const files = {
      ...contextFiles("far", { Host: "tcp://far:2376", SkipTLSVerify: true }),
      [`${home}/.docker/contexts/tls/${sha("far")}/docker/ca.pem`]: "CA",
    };
    expect(await discover({}, files).address).toMatchObject({
      host: "far",
      tls: { ca: Buffer.from("CA"), verify: false },
    });
  });

  test("that is selected but not there is named", async () => {
    await expect(discover({ context: "gone" }).address).rejects.toMatchObject({
      code: "BACKEND_UNAVAILABLE",
      message: expect.stringContaining('"gone"'),
    });
  });

  test.each(["default", ""])("%j means the known sockets", async (currentContext) => {
    const files = { [`${home}/.docker/config.json`]: JSON.stringify({ currentContext }) };
    const { address } = discover({}, files, { "/var/run/docker.sock": undefined });
    expect(await address).toMatchObject({ socketPath: "/var/run/docker.sock" });
  });

  test("in a configuration that is no JSON is no context", async () => {
    const { address } = discover({}, { [`${home}/.docker/config.json`]: "{" }, { "/var/run/docker.sock": undefined });
    expect(await address).toMatchObject({ found: "known socket" });
  });
});

describe("the known sockets", () => {
  const all = knownSockets({ runtimeDir: "/xdg" }, { home, uid: 1000 });

  test("are those of Docker, rootless Docker, Podman, Colima and Docker Desktop", () => {
    expect(all).toEqual([
      "/var/run/docker.sock",
      "/xdg/docker.sock",
      "/xdg/podman/podman.sock",
      "/run/podman/podman.sock",
      "/home/ann/.colima/default/docker.sock",
      "/home/ann/.docker/run/docker.sock",
      "/home/ann/.docker/desktop/docker.sock",
    ]);
    expect(knownSockets({}, { home, uid: 1000 })[1]).toBe("/run/user/1000/docker.sock");
  });

  test.each(all)("%s is found when it alone answers", async (path) => {
    expect(await discover({ runtimeDir: "/xdg" }, {}, { [path]: undefined }).address).toMatchObject({
      socketPath: path,
    });
  });

  test("are all named when none answers", async () => {
    const failure = await discover({ runtimeDir: "/xdg" }).address.catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: "BACKEND_UNAVAILABLE",
      next: expect.stringContaining("systemctl start docker"),
    });
    for (const path of all) expect(String(failure)).toContain(`${path} (ENOENT)`);
  });

  test("one that refuses this user leads to the group", async () => {
    const { address } = discover({}, {}, { "/var/run/docker.sock": "EACCES" });
    await expect(address).rejects.toMatchObject({ next: expect.stringContaining("usermod -aG docker") });
  });
});
