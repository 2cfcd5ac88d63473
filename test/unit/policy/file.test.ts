import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError, loadConfig } from "../../../src/config.ts";
import { admit } from "../../../src/sandbox/admission.ts";
import { underCeiling } from "../../../src/sandbox/policy/host-dirs.ts";
import { policySchemaText } from "../../../src/sandbox/policy/json-schema.ts";
import { shownPolicy } from "../../../src/sandbox/policy.ts";

const root = new URL("../../../", import.meta.url);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "chorus-policy-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function validator(schema: object) {
  const ajv = new Ajv2020({ strict: false });
  formats.default(ajv);
  return ajv.compile(schema);
}

let files = 0;
const written = (content: object | string): string => {
  const file = path.join(folder, `policy-${++files}.json`);
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
};
const load = (policy: object | string, env: Record<string, string> = {}) =>
  loadConfig({ env: { CHORUS_SANDBOX_POLICY: written(policy), ...env }, home: "/home/a", cpus: 4 });
const problems = (policy: object | string, env: Record<string, string> = {}): string => {
  try {
    load(policy, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error("expected a ConfigError");
};

describe("a policy file", () => {
  it("may use sizes and durations as people write them, or numbers in the unit of the name", () => {
    const { policy } = load({
      maxima: { memory_mb: "2g", workspace_mb: "1.5GiB", ttl_s: "1h30m", idle_s: 60 },
      sizes: { tmp_mb: "256m" },
      ulimits: { fsize: "1g", nofile: 512 },
    });
    expect(policy.maxima).toMatchObject({ memory_mb: 2048, workspace_mb: 1536, ttl_s: 5400, idle_s: 60 });
    expect(policy.sizes.tmp_mb).toBe(256);
    expect(policy.ulimits).toEqual({ nofile: 512, core: 0, fsize: 2 ** 30 });
  });

  it("that says nothing leaves everything built in", () => {
    expect({ ...load({}).policy, source: "" }).toEqual({
      ...loadConfig({ env: {}, home: "/", cpus: 4 }).policy,
      source: "",
    });
  });

  it("stops start-up with one message: each bad key, its value, what is accepted, the key that was meant", () => {
    const message = problems({
      maximum: {},
      maxima: { memroy_mb: 256, cpus: "four", ttl_s: "1 fortnight", workspace_mb: "100k", pids: 1 },
      profiles: ["strict", "root"],
      images: ["bad pattern", "ok/**"],
      image_digests: { "a b": "sha256:zz" },
      capabilities: ["SYS_ADMIN"],
      security: { apparmor: "unconfined", masked_paths: ["/etc/passwd", "/proc/1/x"] },
      proxy: { http: "http://me:secret@proxy:1" },
      dns: { servers: ["dns.example"] },
      host_dirs: ["relative:rw"],
      users: { first: 30_000, last: 20_000 },
      ulimits: { as: 1 },
    });
    for (const part of [
      'maximum = {}: unknown key. Did you mean "maxima"?',
      'maxima.memroy_mb = 256: unknown key. Did you mean "memory_mb"? Known are ttl_s, idle_s',
      'maxima.cpus = "four": expected number',
      'maxima.ttl_s = "1 fortnight": must be a whole number of seconds from 1 to 2592000, or a duration like "90s"',
      'maxima.workspace_mb = "100k": must be a whole number of MiB from 1 to 1048576, or a size like "512m"',
      "maxima.pids = 1:",
      'profiles[1] = "root":',
      'images[0] = "bad pattern": must be a pattern over image references',
      "image_digests",
      'capabilities[0] = "SYS_ADMIN":',
      'security.apparmor = "unconfined": must be the name of a loaded profile',
      'security.masked_paths[0] = "/etc/passwd": must be a path below /proc or /sys',
      'security.masked_paths[1] = "/proc/1/x":',
      "proxy.http =",
      'dns.servers[0] = "dns.example": must be an IP address',
      'host_dirs[0] = "relative:rw": must be an absolute folder',
      "users =",
      "ulimits.as = 1: unknown key. Known are nofile, core",
    ]) {
      expect(message).toContain(part);
    }
    expect(message).toContain(`CHORUS_SANDBOX_POLICY (${folder}`);
    expect(message).not.toContain("secret");
  });

  it("must not contradict itself", () => {
    const message = problems({
      defaults: { memory_mb: 512 },
      maxima: { memory_mb: 256, sandboxes: 20 },
      users: { first: 20_000, last: 20_009 },
    });
    expect(message).toContain("defaults.memory_mb = 512: must be at most maxima.memory_mb, 256");
    expect(message).toContain("users = 10 uids: must be at least as many as maxima.sandboxes, 20");
    expect(load({ maxima: { memory_mb: 256 } }).policy.defaults.memory_mb).toBe(256);
  });

  it("cannot be used with variables that go beyond it", () => {
    const message = problems(
      { images: ["python"], maxima: { pool: 1 }, host_dirs: ["/srv:ro"] },
      {
        CHORUS_SANDBOX_IMAGE: "debian:12",
        CHORUS_SANDBOX_POOL: "2",
        CHORUS_SANDBOX_HOST_DIRS: "/srv:rw,/srv/a:ro,/etc:ro",
      },
    );
    expect(message).toContain('CHORUS_SANDBOX_IMAGE="debian:12": must be an image the policy allows');
    expect(message).toContain(
      'CHORUS_SANDBOX_POOL="2": must be a whole number from 0 to 1 (maxima.pool of the policy)',
    );
    expect(message).toContain(
      'CHORUS_SANDBOX_HOST_DIRS: "/srv:rw,/etc:ro": must lie within host_dirs of the policy (/srv:ro)',
    );
    expect(problems({}, { CHORUS_SANDBOX_IMAGE: "Not An Image" })).toContain("must be an image reference");
    expect(load({ maxima: { pool: 0 } }).pool).toBe(0);
  });

  it("is not got round by a link", () => {
    const inside = path.join(folder, "in");
    const outside = path.join(folder, "out");
    for (const dir of [inside, outside]) mkdirSync(dir);
    symlinkSync(outside, path.join(inside, "link"));
    const ceiling = { host_dirs: [`${inside}:rw`] };
    expect(load(ceiling, { CHORUS_SANDBOX_HOST_DIRS: `${inside}:rw` }).hostDirs).toEqual([
      { path: inside, mode: "rw" },
    ]);
    expect(problems(ceiling, { CHORUS_SANDBOX_HOST_DIRS: `${inside}/link:ro` })).toContain("must lie within host_dirs");
  });

  it("takes a seccomp profile as it is at start-up, and shows its hash", () => {
    writeFileSync(path.join(folder, "profile.json"), '{ "defaultAction": "SCMP_ACT_ERRNO" }');
    const { policy } = load({ security: { seccomp: "profile.json" } });
    expect(policy.security.seccomp?.json).toBe('{"defaultAction":"SCMP_ACT_ERRNO"}');
    expect(shownPolicy(policy).security.seccomp).toEqual({
      file: path.join(folder, "profile.json"),
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    writeFileSync(path.join(folder, "other.json"), "{}");
    expect(problems({ security: { seccomp: "other.json" } })).toContain("must be a readable seccomp profile");
    expect(problems({ security: { seccomp: "missing.json" } })).toContain('security.seccomp = "missing.json"');
  });
});

describe("the ceiling over host folders", () => {
  const ceiling = [
    { path: "/data", mode: "rw" as const },
    { path: "/data/old", mode: "ro" as const },
  ];
  it.each([
    ["/data:rw", ["/data:rw", "/data/old:ro"], []],
    ["/data/x:rw", ["/data/x:rw"], []],
    ["/data/old:ro", ["/data/old:ro"], []],
    ["/data/old/y:rw", [], ["/data/old/y:rw"]],
    ["/database:ro", [], ["/database:ro"]],
    ["/:ro", [], ["/:ro"]],
  ])("for %s", (text, dirs, beyond) => {
    const shown = (list: { path: string; mode: string }[]) => list.map((dir) => `${dir.path}:${dir.mode}`);
    const open = [{ path: text.slice(0, -3), mode: text.endsWith("rw") ? ("rw" as const) : ("ro" as const) }];
    const held = underCeiling(open, ceiling);
    expect([shown(held.dirs), shown(held.beyond)]).toEqual([dirs, beyond]);
  });
});

describe("the JSON Schema", () => {
  const schema = readFileSync(new URL("schemas/policy.schema.json", root), "utf8");

  it("is checked in as the code makes it (npm run schemas)", () => {
    expect(schema).toBe(policySchemaText());
  });

  it("lets pass what the server takes, and refuses a typo", () => {
    const validate = validator(JSON.parse(schema));
    expect(validate({ maxima: { memory_mb: "2g", ttl_s: 60 }, images: ["**"] })).toBe(true);
    expect(validate({ maxima: { memroy_mb: "2g" } })).toBe(false);
  });
});

it("docs/policy.md has every rule of the schema", () => {
  const docs = readFileSync(new URL("docs/policy.md", root), "utf8");
  const rules = [...docs.matchAll(/^\| (`[^|]*`[^|]*) \|/gm)].map((match) => match[1] ?? "").join(" ");
  const { properties } = JSON.parse(policySchemaText()) as { properties: Record<string, { properties?: object }> }; // our own
  const missing = Object.entries(properties).flatMap(([key, { properties: inner }]) => {
    if (key === "$schema") return [];
    const whole = inner === undefined || key === "defaults";
    const named = (name: string): boolean => rules.includes(`\`${key}.${name}\``) || rules.includes(`\`.${name}\``);
    const lacking = whole ? [] : Object.keys(inner).filter((name) => !named(name));
    return rules.includes(`\`${key}`) ? lacking.map((name) => `${key}.${name}`) : [key];
  });
  expect(missing).toEqual([]);
});

describe("the examples", () => {
  const names = readdirSync(new URL("examples/policies/", root));
  const validate = validator(JSON.parse(policySchemaText()));

  it("are there for a laptop, a team's server and a locked-down host", () => {
    expect(names.sort()).toEqual(["laptop.json", "locked-down.json", "team-server.json"]);
  });

  it.each(names)("%s loads, fits the schema, and decides something", (name) => {
    const url = new URL(`examples/policies/${name}`, root);
    expect(validate(JSON.parse(readFileSync(url, "utf8"))), JSON.stringify(validate.errors)).toBe(true);
    const { policy } = loadConfig({ env: { CHORUS_SANDBOX_POLICY: url.pathname }, home: "/home/a", cpus: 8 });
    expect(() => admit({ memory_mb: policy.maxima.memory_mb + 1 }, policy, "x")).toThrow();
    expect(() => admit({ network: "open" }, policy, "chorus-sandbox/base")).toThrow(/POLICY|rule/);
  });

  it("of a locked-down host runs one image, by digest", () => {
    const url = new URL("examples/policies/locked-down.json", root);
    const { policy } = loadConfig({ env: { CHORUS_SANDBOX_POLICY: url.pathname }, home: "/home/a", cpus: 8 });
    const image = "registry.example.com/approved/python:3.12";
    expect(admit({ image }, policy, image).image).toMatch(/python:3\.12@sha256:[0-9a-f]{64}$/);
    for (const other of ["alpine", "registry.example.com/approved/python:3.13", `${image}@sha256:${"0".repeat(64)}`])
      expect(() => admit({ image: other }, policy, image), other).toThrow(
        expect.objectContaining({ code: "POLICY_DENIED" }),
      );
  });
});
