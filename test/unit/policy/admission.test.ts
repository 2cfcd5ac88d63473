import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { admit, PolicyDenied, specHash } from "../../../src/sandbox/admission.ts";
import type { CreateRequest } from "../../../src/sandbox/api.ts";
import type { EngineInfo } from "../../../src/sandbox/backend.ts";
import { confinedBy, engineSpec, fitEngine, type SandboxSpec } from "../../../src/sandbox/confinement.ts";
import { parseReference } from "../../../src/sandbox/image-reference.ts";
import { imageAllowed, pinnedDigests } from "../../../src/sandbox/policy/images.ts";
import { grantable } from "../../../src/sandbox/policy/schema.ts";
import { effectivePolicy, minima, type Policy, policyFileSchema } from "../../../src/sandbox/policy.ts";

const digests = ["a", "b", "c"].map((digit) => `sha256:${digit.repeat(64)}`);
const names = ["alpine", "python", "ghcr.io/acme/tool", "localhost:5000/x", "chorus-sandbox/base"];
const tags = ["", ":latest", ":3.12", ":edge"];

const image = fc
  .tuple(
    fc.constantFrom(...names),
    fc.constantFrom(...tags),
    fc.constantFrom("", "", ...digests.map((digest) => `@${digest}`)),
  )
  .map((parts) => parts.join(""));
const pattern = fc.oneof(
  image,
  fc.constantFrom("**", "*", "ghcr.io/**", "python:3.*", "acme/*", "chorus-sandbox/*", "library/*"),
);
const amount = fc.oneof(fc.integer({ min: -10, max: 100_000 }), fc.double({ noNaN: true, min: -5, max: 5_000 }));
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

/** Asking for little, most of the time, or next to nothing would be allowed. */
const rarely = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });

const limits = {
  ttl_s: rarely(fc.integer({ min: 1, max: 90_000 })),
  idle_s: rarely(fc.integer({ min: 1, max: 90_000 })),
  cpus: rarely(fc.double({ min: 0.05, max: 16, noNaN: true })),
  memory_mb: rarely(fc.integer({ min: 16, max: 10_000 })),
  pids: rarely(fc.integer({ min: 64, max: 10_000 })),
  workspace_mb: rarely(fc.integer({ min: 1, max: 10_000 })),
};
const policies: fc.Arbitrary<Policy> = fc
  .record({
    images: optional(fc.array(pattern, { maxLength: 4 })),
    image_digests: optional(fc.dictionary(pattern, fc.subarray(digests, { minLength: 1 }), { maxKeys: 3 })),
    require_digest: optional(fc.boolean()),
    runtimes: rarely(fc.subarray(["runc", "runsc", "kata"], { minLength: 1 })),
    profiles: rarely(fc.subarray(["strict" as const, "dev" as const], { minLength: 1 })),
    networks: rarely(fc.subarray(["none" as const, "allowlist" as const, "open" as const], { minLength: 1 })),
    capabilities: rarely(fc.subarray([...grantable])),
    defaults: rarely(fc.record(limits)),
    maxima: rarely(fc.record({ ...limits, sandboxes: rarely(fc.integer({ min: 0, max: 60 })) })),
  })
  .map((file) => effectivePolicy(policyFileSchema.parse(JSON.parse(JSON.stringify(file))), "/etc/policy.json", 8));

const requests: fc.Arbitrary<CreateRequest> = fc.record({
  image: optional(fc.oneof({ weight: 9, arbitrary: image }, { weight: 1, arbitrary: fc.string() })),
  profile: rarely(fc.constantFrom("strict" as const, "dev" as const)),
  network: rarely(fc.constantFrom("none" as const, "allowlist" as const, "open" as const)),
  allow: rarely(fc.array(fc.domain(), { maxLength: 2 })),
  labels: rarely(fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })),
  env: rarely(fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })),
  ttl_s: rarely(amount),
  idle_s: rarely(amount),
  cpus: rarely(amount),
  memory_mb: rarely(amount),
  pids: rarely(amount),
  workspace_mb: rarely(amount),
});

const outcome = (request: CreateRequest, policy: Policy): SandboxSpec | SandboxError => {
  try {
    return admit(request, policy, "chorus-sandbox/base");
  } catch (error) {
    if (error instanceof SandboxError) return error;
    throw error;
  }
};

describe("whatever is asked under whatever policy", () => {
  it("is within the policy, or refused", () => {
    let admitted = 0;
    fc.assert(
      fc.property(requests, policies, (request, policy) => {
        const spec = outcome(request, policy);
        if (spec instanceof SandboxError) {
          expect(["POLICY_DENIED", "INVALID_ARGUMENT"]).toContain(spec.code);
          return;
        }
        admitted++;
        const { resources, confinement } = spec;
        const asked = { ttl_s: spec.ttl_s, idle_s: spec.idle_s, ...resources };
        for (const key of ["ttl_s", "idle_s", "cpus", "memory_mb", "pids", "workspace_mb"] as const) {
          expect(asked[key]).toBeLessThanOrEqual(policy.maxima[key]);
          expect(asked[key]).toBeGreaterThanOrEqual(minima[key]);
        }
        expect(policy.profiles).toContain(spec.profile);
        expect(spec.network).toEqual({ mode: "none" });
        expect(confinement.capabilities).toEqual(spec.profile === "dev" ? policy.capabilities : []);
        const reference = parseReference(spec.image);
        const askedFor = parseReference(request.image ?? "chorus-sandbox/base");
        expect(imageAllowed(policy, askedFor)).toBe(true);
        expect(reference.repository).toBe(askedFor.repository);
        const pins = pinnedDigests(policy, reference);
        if (pins) expect(pins).toContain(reference.digest);
        if (policy.require_digest) expect(reference.digest).toBeDefined();
      }),
      { numRuns: 1_500 },
    );
    // Or the properties above would say nothing.
    expect(admitted).toBeGreaterThan(60);
  });

  it("a refusal by the policy names its rule and how an operator changes it", () => {
    let refused = 0;
    fc.assert(
      fc.property(requests, policies, (request, policy) => {
        const denial = outcome(request, policy);
        if (!(denial instanceof PolicyDenied)) return;
        refused++;
        expect(denial.message).toContain(`(rule ${denial.rule})`);
        if (denial.rule === "networks") return;
        expect(denial.next).toContain("ask the operator to");
        expect(denial.next).toContain("/etc/policy.json");
        expect(Object.keys(policyFileSchema.shape)).toContain(denial.rule.split(".")[0]);
      }),
      { numRuns: 1_000 },
    );
    expect(refused).toBeGreaterThan(100);
  });
});

const policyOf = (file: object): Policy => effectivePolicy(policyFileSchema.parse(file), "/etc/policy.json", 8);
const engine = (change: Partial<EngineInfo> = {}): EngineInfo => ({
  engine_id: "e",
  description: "Docker 1 at unix:///x",
  version: "1",
  runtimes: ["runc", "runsc"],
  cpus: 2,
  memory_bytes: 2 ** 33,
  confines: ["seccomp"],
  missing_limits: [],
  ...change,
});
const fitted = (file: object, change: Partial<EngineInfo> = {}): SandboxSpec =>
  fitEngine(admit({}, policyOf(file), "alpine"), engine(change));

describe("on an engine", () => {
  it("the first runtime the engine names is taken, and none of them is an error", () => {
    expect(fitted({}).runtime).toBeUndefined();
    expect(fitted({ runtimes: ["kata", "runsc", "runc"] }).runtime).toBe("runsc");
    expect(() => fitted({ runtimes: ["kata"] })).toThrow(
      expect.objectContaining({
        code: "BACKEND_UNAVAILABLE",
        message: expect.stringMatching(/kata.*names runc, runsc/),
      }),
    );
  });

  it.each([
    [{ security: { apparmor: "chorus" } }, "security.apparmor"],
    [{ security: { selinux: ["type:x_t"] } }, "security.selinux"],
    [{ sizes: { workspace_inodes: 1000 } }, "sizes.workspace_inodes"],
  ])("%j cannot be had where the engine lacks it", (file, named) => {
    expect(() => fitted(file, { bounds_inodes: false })).toThrow(
      expect.objectContaining({
        code: "BACKEND_UNAVAILABLE",
        message: expect.stringContaining(named),
        retryable: false,
      }),
    );
    expect(() => fitted(file, { confines: ["seccomp", "apparmor", "selinux"], bounds_inodes: true })).not.toThrow();
  });

  it("a seccomp profile needs an engine with seccomp", () => {
    const policy = effectivePolicy({}, "x", 8, { file: "/f", sha256: "s", json: "{}" });
    const spec = admit({}, policy, "alpine");
    expect(() => fitEngine(spec, engine({ confines: [] }))).toThrow(/security\.seccomp/);
    expect(fitEngine(spec, engine()).confinement.seccomp).toBe("{}");
    expect(confinedBy(spec)).toEqual({ seccomp: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) });
  });

  it.each([
    [{ security: { masked_paths: ["/proc/version"] } }, "security.masked_paths"],
    [{ sizes: { workspace_inodes: 1000 } }, "sizes.workspace_inodes"],
    [{ dns: { search: ["x"] } }, "dns"],
  ])("%j is an error under a runtime that would pass over it", (file, named) => {
    const ignored = { runsc: ["masked_paths", "workspace_inodes", "dns"] as const };
    expect(() => fitted({ ...file, runtimes: ["runsc"] }, { ignored })).toThrow(
      expect.objectContaining({ code: "BACKEND_UNAVAILABLE", message: expect.stringContaining(named) }),
    );
    expect(() => fitted(file, { ignored, runtimes: ["runsc"] })).toThrow(/runsc/);
    expect(() => fitted(file, { ignored })).not.toThrow();
    expect(
      fitted({ runtimes: ["runsc"] }, { ignored, bounds_inodes: true }).resources.workspace_inodes,
    ).toBeUndefined();
  });

  it("a limit that cannot be enforced is an error", () => {
    expect(() => fitted({}, { missing_limits: ["memory", "pids"] })).toThrow(/cannot limit memory and pids/);
  });

  it("inodes are bounded where the engine can, and by the policy where it says so", () => {
    expect(fitted({}, { bounds_inodes: true }).resources.workspace_inodes).toBe(512 * 512);
    expect(fitted({}).resources.workspace_inodes).toBeUndefined();
    expect(fitted({ sizes: { workspace_inodes: 99 } }, { bounds_inodes: true }).resources.workspace_inodes).toBe(99);
  });
});

describe("what goes to the engine", () => {
  const own = { sandbox_id: "sb_1", image_id: "i", uid: 20_001, boot_lease_ms: 1, spec_hash: "h" };

  it("has all the policy decides, and only for dev its capabilities", () => {
    const file = {
      profiles: ["strict", "dev"],
      capabilities: ["NET_RAW"],
      runtimes: ["runsc"],
      dns: { servers: ["192.0.2.1"] },
      ulimits: { nofile: 1024 },
      sizes: { tmp_mb: "1g", shm_mb: 8 },
      security: { masked_paths: ["/proc/cpuinfo"], apparmor: "a" },
    };
    const on = engine({ confines: ["apparmor"] });
    const strict = engineSpec(fitEngine(admit({}, policyOf(file), "alpine"), on), own);
    expect(strict).toMatchObject({
      runtime: "runsc",
      resources: { tmp_mb: 1024, shm_mb: 8 },
      confinement: {
        capabilities: [],
        apparmor: "a",
        masked_paths: ["/proc/cpuinfo"],
        ulimits: { nofile: 1024, core: 0 },
        dns: { servers: ["192.0.2.1"] },
      },
    });
    const dev = fitEngine(admit({ profile: "dev" }, policyOf(file), "alpine"), on);
    expect(engineSpec(dev, own).confinement?.capabilities).toEqual(["NET_RAW"]);
    expect(confinedBy(dev)).toEqual({ capabilities: ["NET_RAW"], apparmor: "a" });
    expect(confinedBy(fitted({}))).toBeUndefined();
  });

  it("makes another hash with every rule that reaches a sandbox, so that no pool mixes them", () => {
    const files = [
      {},
      { runtimes: ["runc"] },
      { runtimes: ["runsc"] },
      { capabilities: [], profiles: ["strict"] },
      { security: { masked_paths: ["/proc/cpuinfo"] } },
      { security: { readonly_paths: ["/proc/cpuinfo"] } },
      { dns: { search: ["x"] } },
      { proxy: { http: "http://p:1" } },
      { ulimits: { nofile: 1000 } },
      { sizes: { tmp_mb: 1 } },
      { sizes: { shm_mb: 1 } },
      { sizes: { workspace_inodes: 100 } },
      { image_digests: { alpine: digests[0] } },
      { defaults: { memory_mb: 100 } },
    ];
    const hashes = files.map((file) => specHash(fitted(file, { bounds_inodes: true })));
    // Strict has no capabilities beyond the guest's, whatever dev may have.
    expect(hashes[3]).toBe(hashes[0]);
    expect(new Set(hashes).size).toBe(files.length - 1);
    const seccomp = effectivePolicy({}, "x", 8, { file: "/f", sha256: "s", json: "{}" });
    expect(hashes).not.toContain(specHash(fitEngine(admit({}, seccomp, "alpine"), engine({ bounds_inodes: true }))));
  });

  it("gives commands both spellings of the proxies", () => {
    expect(fitted({ proxy: { https: "http://p:1", none: ["a", "b"] } }).env).toEqual({
      https_proxy: "http://p:1",
      HTTPS_PROXY: "http://p:1",
      no_proxy: "a,b",
      NO_PROXY: "a,b",
    });
  });
});
