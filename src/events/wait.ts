/** Resolves after `ms`, or at once when the signal aborts; never keeps the process alive. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms).unref();
    signal.addEventListener("abort", done, { once: true });
  });
}

/** Doubling from `first` to `most` milliseconds, with a fifth of chance in it, so that many processes do not knock together. */
export function backoff(attempt: number, first: number, most: number): number {
  return Math.min(most, first * 2 ** Math.min(attempt, 20)) * (0.9 + Math.random() * 0.2);
}

/** The promise's outcome, or `undefined` once the signal aborts; then what becomes of the promise no longer matters. */
export function unless<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) resolve(undefined);
    const aborted = () => resolve(undefined);
    signal.addEventListener("abort", aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}
