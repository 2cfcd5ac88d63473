import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { givenUp, hasCode } from "../errors.ts";

const againMs = 250;

/**
 * Waits for a promise until the signal aborts; the work behind the promise goes on. Rejects with ABORTED, or TIMEOUT when a deadline
 * aborted it.
 * @param silent who will not have done what then, as it reads before "in time"
 */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined, silent?: string): Promise<T> {
  if (!signal) return promise;
  const aborted = () => givenUp(signal.reason, silent);
  if (signal.aborted) {
    promise.catch(() => {});
    throw aborted();
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(aborted());
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** The promise's value, or undefined once `ms` have passed; never rejects for being late. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal, ref: false }).catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    promise.catch(() => {});
  }
}

/** Sleeps, or returns early once the signal aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal, ref: false }).catch(() => {});
}

/** Work that must come to pass, though the store takes nothing now: done again as long as that is so. Keeps no process running, and never rejects. */
export async function untilDone(work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    await delay(againMs, undefined, { ref: false });
    const over = await work().then(
      () => true,
      // A full disk, or a process that holds the store.
      (error: unknown) => !hasCode(error, "LIMIT_EXCEEDED", "TIMEOUT"),
    );
    if (over) return;
  }
}

/** A signal that aborts with the given one, or after `ms` with a TimeoutError. */
export function deadline(ms: number, signal?: AbortSignal): AbortSignal {
  if (signal?.aborted) return signal;
  const timeout = AbortSignal.timeout(ms);
  if (!signal) return timeout;
  // Not AbortSignal.any: what it makes is only freed with the signals that it is made of, and some live as long as the server.
  const either = new AbortController();
  const onTimeout = () => {
    signal.removeEventListener("abort", onAbort);
    either.abort(timeout.reason);
  };
  const onAbort = () => {
    timeout.removeEventListener("abort", onTimeout);
    either.abort(signal.reason);
  };
  // Many may wait on one signal.
  setMaxListeners(0, signal);
  timeout.addEventListener("abort", onTimeout, { once: true });
  signal.addEventListener("abort", onAbort, { once: true });
  return either.signal;
}

/** Work that gets a signal which aborts after `ms`. Leaves no timer behind, unlike `deadline`: for what is done many times a second. */
export async function bounded<T>(ms: number, work: (limit: AbortSignal) => Promise<T>): Promise<T> {
  const limit = new AbortController();
  const late = () => limit.abort(new DOMException(`Not done within ${ms} ms.`, "TimeoutError"));
  const timer = setTimeout(late, ms).unref();
  try {
    return await work(limit.signal);
  } finally {
    clearTimeout(timer);
  }
}
