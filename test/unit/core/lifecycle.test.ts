import { describe, expect, it } from "vitest";
import { bootTime, leaseEnd, leaseLeftMs } from "../../../src/sandbox/boot-clock.ts";
import {
  endReason,
  exitSignal,
  inOtherHands,
  requireLive,
  requireRunning,
  requireUnending,
} from "../../../src/sandbox/lifecycle.ts";
import { sandboxRow, sandboxView } from "../../../src/sandbox/present.ts";
import { completed, execRecord, sandboxRecord } from "../../support/store.ts";

const at = "2026-01-01T00:00:00.000Z";

describe("why a sandbox is over", () => {
  it.each([
    [0, "died", false],
    [80, "ttl", true],
    [81, "idle", true],
    [82, "reconciled", true],
    [137, "died", false],
    [null, "died", false],
  ] as const)("its guest's exit code %s means %s", (code, reason, expected) => {
    expect(endReason(sandboxRecord("sb"), code)).toEqual({ reason, expected });
  });

  it("what was asked for counts before any exit code", () => {
    const record = sandboxRecord("sb", { ending: { reason: "request", at } });
    expect(endReason(record, 80)).toEqual({ reason: "request", expected: true });
  });

  it("signals are told by exit codes above 128", () => {
    expect([137, 143, 139, 1, null].map(exitSignal)).toEqual(["KILL", "TERM", "SEGV", undefined, undefined]);
  });
});

describe("what may be done", () => {
  const running = sandboxRecord("sb_1", { name: "box" });
  const ending = { ...running, ending: { reason: "idle", at } } as const;
  const paused = { ...running, state: "paused" } as const;
  const creating = { ...running, state: "creating" } as const;
  const ended = { ...running, state: "ended", ended: { at, reason: "ttl", oom_killed: false } } as const;
  const failed = {
    ...running,
    state: "failed",
    ended: { at, reason: "failed", message: "no image", oom_killed: false },
  } as const;

  it.each([
    ["a running one", running, [undefined, undefined, undefined]],
    ["an ending one", ending, ["SANDBOX_ENDED", "SANDBOX_ENDED", undefined]],
    ["a paused one", paused, ["SANDBOX_NOT_RUNNING", undefined, undefined]],
    ["one being created", creating, ["SANDBOX_NOT_RUNNING", undefined, undefined]],
    ["one that ended", ended, ["SANDBOX_ENDED", "SANDBOX_ENDED", "SANDBOX_ENDED"]],
    ["one that failed", failed, ["SANDBOX_ENDED", "SANDBOX_ENDED", "SANDBOX_ENDED"]],
  ] as const)("with %s", (_what, record, codes) => {
    const code = (check: () => void) => {
      try {
        check();
        return undefined;
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    const checks = [requireRunning, requireUnending, requireLive];
    expect(checks.map((check) => code(() => check(record)))).toEqual(codes);
  });

  it("the words say which, why and when", () => {
    expect(() => requireLive(ended)).toThrow(`Sandbox "box" (sb_1) ended at ${at}: its ttl_s was over.`);
    expect(() => requireLive(failed)).toThrow(/could not be created \(no image\)/);
    expect(() => requireRunning(ending)).toThrow(/is ending: it was idle/);
  });

  it("a live creator's sandbox is its own, until its end is asked for", () => {
    const alive = (id: string) => id === "ps_live";
    expect(inOtherHands({ ...creating, creator: "ps_live" }, { alive })).toBe(true);
    expect(inOtherHands({ ...creating, creator: "ps_dead" }, { alive })).toBe(false);
    expect(inOtherHands({ ...ending, state: "creating", creator: "ps_live" }, { alive })).toBe(false);
    expect(inOtherHands({ ...running, creator: "ps_live" }, { alive })).toBe(false);
  });
});

describe("what is left of a lease", () => {
  const boot = { boot_id: "this", uptime_ms: 5_000 };
  const wallMs = Date.parse(at);
  const expires_boot = { boot_id: "this", uptime_ms: 8_000 };

  it("is told by the boot clock, wherever the wall clock went", () => {
    expect(leaseLeftMs({ expires_at: "2001-01-01T00:00:00Z", expires_boot }, { wallMs, boot })).toBe(3_000);
  });

  it("is told by the wall clock after another boot, and unknown before the lease began", () => {
    const other = { ...boot, boot_id: "other" };
    const expires_at = new Date(wallMs - 2_000).toISOString();
    expect(leaseLeftMs({ expires_at, expires_boot }, { wallMs, boot: other })).toBe(-2_000);
    expect(leaseLeftMs({}, { wallMs, boot })).toBeUndefined();
  });

  it("is all of it at first", () => {
    const left = leaseLeftMs(leaseEnd(60)) ?? 0;
    expect(left).toBeGreaterThan(59_000);
    expect(left).toBeLessThanOrEqual(60_000);
    expect(bootTime().boot_id).not.toBe("");
  });
});

describe("views", () => {
  const exec = execRecord("sb_1", "ex_1", { completed: { ...completed, status: "killed", exit_code: 137 } });

  it("of a live sandbox count what the store knows to run when the guest is silent", () => {
    const view = sandboxView(sandboxRecord("sb_1", leaseEnd(60)), "7", [execRecord("sb_1", "ex_2")]);
    expect(view).toMatchObject({ running_execs: 1, idle_in_s: null, event_cursor: "7", workdir: "/workspace" });
    expect(view).not.toHaveProperty("ended");
  });

  it("of one that ended have its last execs and no lease", () => {
    const ended = { at, reason: "died", exit_code: 1, oom_killed: true } as const;
    const record = sandboxRecord("sb_1", { state: "ended", ended, ...leaseEnd(60) });
    expect(sandboxView(record, "7", [exec])).toMatchObject({
      ...{ expires_in_s: null, idle_in_s: null, running_execs: 0 },
      ended: { ...ended, last_execs: [{ exec_id: "ex_1", status: "killed", exit_code: null }] },
    });
    expect(sandboxRow(record)).toMatchObject({ expires_in_s: null, ended_reason: "died" });
  });

  it("never hold what only the store needs", () => {
    const record = sandboxRecord("sb_1", { request_hash: "secret-hash", uid: 31_337 });
    expect(JSON.stringify([sandboxView(record, "1", []), sandboxRow(record)])).not.toMatch(/secret-hash|31337|fact_/);
  });
});
