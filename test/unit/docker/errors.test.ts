import { describe, expect, test } from "vitest";
import { negotiate } from "../../../src/sandbox/backends/docker/connection.ts";
import {
  checkWarnings,
  EngineAnswer,
  EngineTimeout,
  limitFailure,
  toSandboxError,
} from "../../../src/sandbox/backends/docker/errors.ts";
import { engineInfo } from "../../../src/sandbox/backends/docker/facts.ts";

const context = { action: "start the sandbox", endpoint: "unix:///x.sock" };

describe("an engine's answer", () => {
  test.each([
    [400, "bad parameter", "INVALID_ARGUMENT"],
    [403, "no", "PERMISSION_DENIED"],
    [404, "No such container: x", "SANDBOX_NOT_FOUND"],
    [404, "No such image: y:latest", "IMAGE_NOT_FOUND"],
    [409, 'Conflict. The container name "/x" is already in use', "CONFLICT"],
    [409, "Container x is not running", "SANDBOX_NOT_RUNNING"],
    [500, "Container x is not running", "SANDBOX_NOT_RUNNING"],
    [500, "OCI runtime create failed", "INTERNAL"],
    [500, "write /x: no space left on device", "LIMIT_EXCEEDED"],
    [503, "shutting down", "BACKEND_UNAVAILABLE"],
    [500, "runc create failed: apparmor profile set: apparmor failed to apply profile x", "BACKEND_UNAVAILABLE"],
    [400, "unknown or invalid runtime name: kata", "BACKEND_UNAVAILABLE"],
  ])("%i %j is %s", (status, words, code) => {
    const error = toSandboxError(new EngineAnswer(status, words), context);
    expect(error).toMatchObject({ code, cause: expect.any(EngineAnswer) });
    expect(error.message).toContain("Could not start the sandbox: the engine says");
  });

  test("is quoted, printable and short", () => {
    const { message } = toSandboxError(new EngineAnswer(500, `\u001b[31m${"x".repeat(10_000)}\u202e\n`), context);
    expect(message).toMatch(/says "\[31mx+…"$/);
    expect(message.length).toBeLessThan(400);
  });

  test("of 404 means what the call says it means", () => {
    expect(toSandboxError(new EngineAnswer(404, "gone"), { ...context, notFound: "GUEST_UNAVAILABLE" }).code).toBe(
      "GUEST_UNAVAILABLE",
    );
  });
});

describe("an engine that cannot be reached", () => {
  test.each([
    ["ENOENT", /systemctl start docker/],
    ["ECONNREFUSED", /systemctl start docker/],
    ["EACCES", /usermod -aG docker/],
    ["ECONNRESET", /Call again/],
    ["ENOTFOUND", /DOCKER_HOST/],
    ["CERT_HAS_EXPIRED", /DOCKER_CERT_PATH/],
    ["SELF_SIGNED_CERT_IN_CHAIN", /DOCKER_CERT_PATH/],
  ])("%s is BACKEND_UNAVAILABLE with the step that helps", (code, next) => {
    const error = toSandboxError(Object.assign(new Error("x"), { code }), context);
    expect(error).toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: true });
    expect(error.next).toMatch(next);
    expect(error.message).toContain("unix:///x.sock");
  });

  test("hung up before it answered", () => {
    expect(toSandboxError(new Error("socket hang up"), context).code).toBe("BACKEND_UNAVAILABLE");
  });

  test("is slow beyond the call's limit", () => {
    const error = toSandboxError(new EngineTimeout(30_000), context);
    expect(error).toMatchObject({ code: "BACKEND_UNAVAILABLE", message: expect.stringContaining("within 30 s") });
  });
});

test("a cancelled call is ABORTED, and what nobody foresaw INTERNAL", () => {
  expect(toSandboxError(new DOMException("x", "AbortError"), context).code).toBe("ABORTED");
  expect(toSandboxError(new TypeError("x"), context).code).toBe("INTERNAL");
});

describe("the API version", () => {
  test.each([
    ["1.41", undefined, "1.41"],
    ["1.45", "1.24", "1.45"],
    ["1.52", "1.44", "1.47"],
    ["1.60", "1.50", "1.50"],
  ])("with an engine of %s (least %s) is %s", (ApiVersion, MinAPIVersion, expected) => {
    expect(negotiate({ Version: "x", ApiVersion, MinAPIVersion }, "unix:///x")).toBe(expected);
  });

  test("below 1.41 is refused", () => {
    expect(() => negotiate({ Version: "x", ApiVersion: "1.40" }, "unix:///x")).toThrow(
      expect.objectContaining({ code: "BACKEND_UNAVAILABLE", retryable: false }),
    );
  });
});

describe("limits that cannot be changed", () => {
  const failed = (status: number, words: string, memory_mb?: number) =>
    limitFailure(
      toSandboxError(new EngineAnswer(status, words), context),
      memory_mb === undefined ? {} : { memory_mb },
    );

  test("because more is used are said so", () => {
    const words = "unable to set memory limit to 20971520 (current usage: 214695936, peak usage: 270508032)";
    expect(failed(500, words, 16)).toMatchObject({
      code: "LIMIT_EXCEEDED",
      next: expect.stringContaining("sandbox_stats"),
    });
    expect(failed(500, words)).toMatchObject({ code: "INTERNAL" });
  });

  test.each([
    [404, "page not found"],
    [500, "Cannot update container x: runsc did not terminate successfully: exit status 128: Usage: runsc <flags>"],
  ])("because nothing there can (%i %s) too", (status, words) => {
    expect(failed(status, words, 64)).toMatchObject({ code: "BACKEND_UNAVAILABLE", retryable: false });
  });

  test("because the sandbox is gone stay what they are", () => {
    expect(failed(404, "No such container: x", 64)).toMatchObject({ code: "SANDBOX_NOT_FOUND" });
    expect(limitFailure("anything", {})).toBe("anything");
  });
});

describe("what an engine leaves out", () => {
  test.each([
    "Your kernel does not support pids limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    "Your kernel does not support CPU cfs quota. Quota discarded.",
  ])("is an error: %s", (warning) => {
    expect(() => checkWarnings(["harmless", warning])).toThrow(
      expect.objectContaining({ code: "BACKEND_UNAVAILABLE" }),
    );
  });

  test("may be swap accounting", () => {
    const warning =
      "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
    expect(() => checkWarnings([warning])).not.toThrow();
  });

  test("is known beforehand where it says so", () => {
    const connection = {
      address: { endpoint: "unix:///x", found: "test", socketPath: "/x" },
      server: { Version: "1", ApiVersion: "1.41" },
    } as Parameters<typeof engineInfo>[0]; // the modem is not looked at
    const info = engineInfo(connection, {
      NCPU: 2,
      MemTotal: 1,
      DefaultRuntime: "runc",
      Runtimes: { runc: { path: "runc" }, sandboxed: { path: "/usr/bin/runsc" } },
      SecurityOptions: ["name=apparmor", "name=seccomp,profile=default", "rootless"],
      MemoryLimit: true,
      CpuCfsQuota: false,
    });
    expect(info).toMatchObject({
      runtimes: ["runc", "sandboxed"],
      confines: ["apparmor", "seccomp", "rootless"],
      missing_limits: ["cpus"],
      bounds_inodes: true,
    });
    const podman = {
      ...connection,
      server: { ...connection.server, Components: [{ Name: "Podman Engine", Version: "4" }] },
    };
    const runtimes = { crun: {}, runsc: {} };
    expect(engineInfo(podman, { NCPU: 2, MemTotal: 1, DefaultRuntime: "crun", Runtimes: runtimes })).toMatchObject({
      runtimes: ["crun"],
      ignored: { crun: ["seccomp", "masked_paths", "readonly_paths", "dns"] },
      bounds_inodes: false,
    });
    expect(info.ignored).toEqual({ sandboxed: expect.arrayContaining(["seccomp", "masked_paths"]) });
  });
});
