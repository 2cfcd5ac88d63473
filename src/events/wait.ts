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
