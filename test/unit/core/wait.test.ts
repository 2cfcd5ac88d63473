import { getEventListeners, once } from "node:events";
import { describe, expect, it } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { abortable, bounded, deadline } from "../../../src/sandbox/wait.ts";

const never = new Promise<never>(() => {});
const late = { code: "TIMEOUT", retryable: true, message: "The guest did not answer in time." };

describe("what is not done in time", () => {
  it("is TIMEOUT and says who did not answer, whichever kind of limit it had", async () => {
    const silent = "The guest did not answer";
    await expect(bounded(5, (limit) => abortable(never, limit, silent))).rejects.toMatchObject(late);
    await expect(abortable(never, deadline(5), silent)).rejects.toMatchObject(late);
    const caller = new AbortController();
    await expect(abortable(never, deadline(5, caller.signal), silent)).rejects.toMatchObject(late);
    await expect(abortable(never, AbortSignal.abort(new DOMException("", "TimeoutError")))).rejects.toMatchObject({
      code: "TIMEOUT",
    });
  });

  it("is ABORTED when the caller left first", async () => {
    const caller = new AbortController();
    const waiting = abortable(never, deadline(10_000, caller.signal), "The guest did not answer");
    caller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ABORTED", retryable: false });
  });

  it("leaves nothing on a signal that lives on, nor on one that is over", async () => {
    const server = new AbortController();
    const limit = deadline(1, server.signal);
    await once(limit, "abort");
    expect(limit.reason).toMatchObject({ name: "TimeoutError" });
    expect(getEventListeners(server.signal, "abort")).toEqual([]);
    // What Node keeps of AbortSignal.any.
    const kept = Object.getOwnPropertySymbols(server.signal).filter((key) => key.description?.includes("Dependant"));
    expect(kept.map((key) => Reflect.get(server.signal, key))).toEqual([]);
    server.abort();
    expect(deadline(10_000, server.signal).reason).toBe(server.signal.reason);
  });

  it("is the same as a bare error", async () => {
    const limit = AbortSignal.timeout(1);
    await new Promise((resolve) => limit.addEventListener("abort", resolve));
    expect(SandboxError.from(limit.reason)).toMatchObject({ code: "TIMEOUT", retryable: true });
    expect(SandboxError.from(new DOMException("", "AbortError"))).toMatchObject({ code: "ABORTED" });
  });
});

it("many deadlines on one signal are nothing to warn of", async () => {
  const warned: string[] = [];
  const hear = (warning: Error) => warned.push(warning.name);
  process.on("warning", hear);
  const stop = new AbortController();
  const deadlines = Array.from({ length: 50 }, () => deadline(60_000, stop.signal));
  await new Promise((done) => setImmediate(done));
  process.off("warning", hear);
  stop.abort();
  expect(warned).toEqual([]);
  expect(deadlines.every(({ aborted }) => aborted)).toBe(true);
});
