import { givenUp, type SandboxError } from "../../../errors.ts";
import { busyEngine, EngineTimeout } from "./errors.ts";

const defaultLimitMs = 30_000;

/** Runs with a signal that is the caller's and the time limit's together, and settles with the first of them. */
export async function withLimit<T>(
  { signal, limitMs = defaultLimitMs }: { signal?: AbortSignal | undefined; limitMs?: number },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(new EngineTimeout(limitMs)), limitMs);
  const onAbort = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await orAborted(work(controller.signal), controller.signal);
  } catch (error) {
    if (controller.signal.reason instanceof EngineTimeout) throw controller.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** The promise, or ABORTED or TIMEOUT as soon as the signal says so; what the promise does then concerns nobody. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(aborted(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}

function aborted(signal: AbortSignal): SandboxError {
  return givenUp(signal.reason, "The container engine did not answer", busyEngine);
}
