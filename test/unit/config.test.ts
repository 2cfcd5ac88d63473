import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { relayTarget } from "../../src/events/login.ts";

const load = (env: Record<string, string>) => loadConfig({ env, home: "/home/a", cpus: 4 });
const problems = (env: Record<string, string>): string => {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error("expected a ConfigError");
};
const file = (content: string): string => {
  const name = path.join(mkdtempSync(path.join(tmpdir(), "chorus-config-")), "file");
  writeFileSync(name, content);
  return name;
};

describe("loadConfig", () => {
  it("needs nothing", () => {
    const config = load({});
    expect(config.dataDir).toBe("/home/a/.local/state/chorus-sandbox");
    expect(config).toMatchObject({
      image: "chorus-sandbox/base",
      pool: 1,
      tenant: "default",
      logLevel: "info",
      hostDirs: [],
    });
    expect(config.nats).toBeUndefined();
    expect(config.policy).toMatchObject({
      source: "built-in",
      defaults: { ttl_s: 3600, idle_s: 900, cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
      maxima: {
        ttl_s: 86_400,
        cpus: 4,
        memory_mb: 4096,
        pids: 4096,
        workspace_mb: 4096,
        sandboxes: 50,
        memory_total_pct: 75,
      },
    });
  });

  it("names every bad variable in one message, with the value and what is accepted", () => {
    const message = problems({
      CHORUS_SANDBOX_POOL: "many",
      LOG_LEVEL: "loud",
      DOCKER_HOST: "nonsense",
      NATS_URL: "nats://a b",
      CHORUS_SANDBOX_DATA_DIR: "relative/dir",
      CHORUS_SANDBOX_HOST_DIRS: "/ok:ro,nope",
      NATS_USER: "me",
      NATS_CREDS: "/does/not/exist",
      CHORUS_SANDBOX_TENANT: "t".repeat(65),
    });
    for (const part of [
      'CHORUS_SANDBOX_POOL="many": must be a whole number from 0 to 50',
      'LOG_LEVEL="loud": must be one of trace, debug',
      'DOCKER_HOST="nonsense": must be like unix:///',
      'NATS_URL="nats://a b": must be servers like',
      'CHORUS_SANDBOX_DATA_DIR="relative/dir": must be an absolute path',
      'CHORUS_SANDBOX_HOST_DIRS: "nope": must be absolute folders like',
      "NATS_USER and NATS_PASSWORD: set both or none",
      'NATS_CREDS="/does/not/exist": must be a readable file',
      "CHORUS_SANDBOX_TENANT",
    ]) {
      expect(message).toContain(part);
    }
    expect(message).toContain("9 bad setting(s)");
  });

  it("never shows the password", () => {
    expect(problems({ NATS_PASSWORD: "hunter2", POOL: "x" })).not.toContain("hunter2");
  });

  it.each([
    ["nats://127.0.0.1:4222"],
    ["tls://a.example:4222,tls://b.example:4222"],
    ["host:4222"],
    ["localhost"],
    ["nats://[::1]:4222"],
    ["nats://user:pass@host:4222"],
    ["tls://user:p%23%3F%25%40%2F%2Css@host_1.example."],
  ])("accepts NATS_URL %s", (url) => {
    expect(load({ NATS_URL: url }).nats?.servers).toEqual(url.split(","));
  });

  it.each([
    ["nats://user:hunter2%@host:4222"],
    ["nats://user:hunter2#s@host:4222"],
    ["nats://user:hunter2?s@host:4222"],
    ["nats://user:hunter2/s@host:4222"],
    ["nats://user:hunter2,s@host:4222"],
    ["nats://a,user:hunter2 s@host"],
    ["nats://user:hunter2@host:99999"],
    ["nats://user:hunter2@host:0"],
    ["nats://:hunter2@host"],
    ["user:hunter2@[::zz]"],
    ["nats://user:hunter2@ho|st"],
    ["nats://user:hunter2@ho%zzst"],
    ["nats://user:hunter2@host/path"],
    ["ws://user:hunter2@host"],
    [","],
  ])("refuses NATS_URL %s and shows no password", (url) => {
    const message = problems({ NATS_URL: url });
    expect(message).toContain("percent-encode # ? % @ / , in user and password");
    expect(message).not.toContain("hunter");
  });

  it("no URL of NATS is in what is thrown about it later", () => {
    const error = (() => {
      try {
        return relayTarget({ servers: ["nats://user:hunter2#s@host:4222"] });
      } catch (error) {
        return error;
      }
    })();
    expect(error).toMatchObject({ message: "The URL of a NATS server cannot be read." });
    expect(inspect(error)).not.toContain("hunter");
  });

  it("reads host folders", () => {
    expect(load({ CHORUS_SANDBOX_HOST_DIRS: "/a:ro,/b/../c:rw" }).hostDirs).toEqual([
      { path: "/a", mode: "ro" },
      { path: "/c", mode: "rw" },
    ]);
  });

  it("takes the operator's ceilings, and lowers defaults that stand above them", () => {
    const policy = load({ CHORUS_SANDBOX_POLICY: file('{"maxima":{"memory_mb":256,"ttl_s":600}}') }).policy;
    expect(policy.maxima).toMatchObject({ memory_mb: 256, ttl_s: 600, pids: 4096 });
    expect(policy.defaults).toMatchObject({ memory_mb: 256, ttl_s: 600, idle_s: 900 });
  });

  it.each([
    ['{"maxima":{"memroy_mb":256}}', "memroy_mb"],
    ['{"maximum":{}}', "maximum"],
    ['{"maxima":{"cpus":"four"}}', "maxima.cpus"],
    ["{", "must be a readable JSON file"],
  ])("a typo in the policy stops start-up: %s", (content, named) => {
    expect(problems({ CHORUS_SANDBOX_POLICY: file(content) })).toContain(named);
  });
});
