import { describe, expect, it } from "vitest";
import { SandboxError } from "../../src/errors.ts";
import { admit, checkCapacity, PolicyDenied, pickUid, requestHash, specHash } from "../../src/sandbox/admission.ts";
import { memoryBudgetMb } from "../../src/sandbox/backend.ts";
import { effectivePolicy } from "../../src/sandbox/policy.ts";

const policy = effectivePolicy({}, "built-in", 4);
const image = "chorus-sandbox/base";
const denied = (work: () => unknown): PolicyDenied => {
  try {
    work();
  } catch (error) {
    if (error instanceof PolicyDenied) return error;
    throw error;
  }
  throw new Error("expected a refusal");
};

describe("admit", () => {
  it("fills in the defaults", () => {
    expect(admit({}, policy, image)).toEqual({
      image: "docker.io/chorus-sandbox/base:latest",
      profile: "strict",
      network: { mode: "none" },
      resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512, tmp_mb: 128, shm_mb: 64 },
      ttl_s: 3600,
      idle_s: 900,
      confinement: {
        capabilities: [],
        masked_paths: [],
        readonly_paths: [],
        dns: { servers: [], search: [], options: [] },
        ulimits: { nofile: 4096, core: 0 },
      },
      env: {},
      runtimes: [],
    });
  });

  it.each([
    ["ttl_s", 86_401],
    ["idle_s", 86_401],
    ["cpus", 4.5],
    ["memory_mb", 4097],
    ["pids", 4097],
    ["workspace_mb", 4097],
  ])("refuses %s above the ceiling, naming the rule", (key, value) => {
    const refusal = denied(() => admit({ [key]: value }, policy, image));
    expect(refusal).toMatchObject({ code: "POLICY_DENIED", rule: `maxima.${key}`, requested: value });
    expect(refusal.message).toContain(`rule maxima.${key}`);
    expect(refusal.next).toContain("operator");
  });

  it.each([
    ["memory_mb", 8],
    ["pids", 10],
    ["ttl_s", 0],
  ])("refuses %s below what works", (key, value) => {
    expect(() => admit({ [key]: value }, policy, image)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it.each([
    [{ network: "open" as const }],
    [{ network: "allowlist" as const, allow: ["a.example"] }],
    [{ allow: ["a.example"] }],
  ])("never turns a network that cannot be had into none: %j", (request) => {
    expect(denied(() => admit(request, policy, image)).rule).toBe("networks");
  });

  it("refuses the dev profile and images outside the policy", () => {
    expect(denied(() => admit({ profile: "dev" }, policy, image)).rule).toBe("profiles");
    const narrow = effectivePolicy({ images: ["chorus-sandbox/*"] }, "file", 4);
    expect(denied(() => admit({ image: "evil/miner" }, narrow, image)).rule).toBe("images");
    expect(admit({ image: "chorus-sandbox/x" }, narrow, image).image).toBe("docker.io/chorus-sandbox/x:latest");
  });
});

describe("checkCapacity", () => {
  const one = {
    sandbox_id: "sb_1",
    tenant: "ours",
    resources: { memory_mb: 512, workspace_mb: 512 },
    last_used_at: "2026-01-01T00:00:00.000Z",
  };
  const core = { policy, tenant: "ours" };
  const gib = 2 ** 30;

  it("counts the whole budget of all live sandboxes", () => {
    const need = memoryBudgetMb(one.resources);
    const exactly = ((need * 2) / 0.75) * 2 ** 20;
    expect(() => checkCapacity(one.resources, [one], core, exactly + 2 ** 20)).not.toThrow();
    expect(() => checkCapacity(one.resources, [one], core, exactly - 2 ** 21)).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED" }),
    );
  });

  it("names what would free room, longest unused first", () => {
    const live = Array.from({ length: 50 }, (_, i) => ({
      ...one,
      sandbox_id: `sb_${i}`,
      last_used_at: new Date(Date.UTC(2026, 0, 50 - i)).toISOString(),
    }));
    try {
      checkCapacity(one.resources, live, core, 1024 * gib);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(SandboxError);
      expect(error).toMatchObject({ code: "LIMIT_EXCEEDED", next: expect.stringContaining("sb_49, sb_48, sb_47") });
    }
  });

  it("names none of another tenant's, and quotes names", () => {
    const live = Array.from({ length: 50 }, (_, i) => ({
      ...one,
      tenant: i < 2 ? "ours" : "theirs",
      name: `name ${i}\nNext: run \u001b[2J`,
    }));
    expect(() => checkCapacity(one.resources, live, core, 1024 * gib)).toThrow(
      expect.objectContaining({
        next: 'Destroy one that is no longer needed, longest unused first: "name 0 Next: run  [2J", "name 1 Next: run  [2J".',
      }),
    );
    const theirs = live.map((occupant) => ({ ...occupant, tenant: "theirs" }));
    expect(() => checkCapacity(one.resources, theirs, core, 1024 * gib)).toThrow(
      expect.objectContaining({ next: expect.not.stringContaining("name") }),
    );
  });
});

describe("hashes", () => {
  const spec = admit({}, policy, image);

  it("request hashes differ with anything asked for, env values included, and with the install", () => {
    const hashes = [
      requestHash(spec, {}, "a"),
      requestHash(spec, {}, "b"),
      requestHash(spec, { name: "n" }, "a"),
      requestHash(spec, { env: { A: "1" } }, "a"),
      requestHash(spec, { env: { A: "2" } }, "a"),
      requestHash(spec, { labels: { a: "1" } }, "a"),
      requestHash({ ...spec, ttl_s: 1 }, {}, "a"),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  it("the order of keys does not matter", () => {
    expect(requestHash(spec, { env: { A: "1", B: "2" } }, "a")).toBe(
      requestHash(spec, { env: { B: "2", A: "1" } }, "a"),
    );
  });

  it("leases do not change what the engine is asked for", () => {
    expect(specHash({ ...spec, ttl_s: 1, idle_s: 1 })).toBe(specHash(spec));
    expect(specHash({ ...spec, image: "other" })).not.toBe(specHash(spec));
  });
});

describe("pickUid", () => {
  it("takes a free one from 20000 to 59999", () => {
    expect(pickUid(new Set(), policy.users, () => 0)).toBe(20_000);
    expect(pickUid(new Set(), policy.users, () => 0.9999999)).toBe(59_999);
    expect(pickUid(new Set([59_999]), policy.users, () => 0.9999999)).toBe(20_000);
  });

  it("says when none is left", () => {
    const all = new Set(Array.from({ length: 40_000 }, (_, i) => 20_000 + i));
    expect(() => pickUid(all, policy.users)).toThrow(expect.objectContaining({ code: "LIMIT_EXCEEDED" }));
  });
});
