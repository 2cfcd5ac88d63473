// @ts-check
/** Samples in, percentiles out. */

/**
 * @typedef {object} Figure
 * @property {string} name what was done
 * @property {string} unit
 * @property {"less" | "more"} better which way is good; percentiles go towards the bad end
 * @property {number} p50
 * @property {number} p95
 * @property {number} p99
 * @property {number} n
 */

/** @param {readonly number[]} sorted @param {number} q */
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

/**
 * @param {string} name
 * @param {readonly number[]} samples
 * @param {string} [unit]
 * @param {Figure["better"]} [better]
 * @returns {Figure}
 */
export function figure(name, samples, unit = "ms", better = "less") {
  if (samples.length === 0) throw new Error(`${name}: nothing was measured`);
  const sorted = [...samples].sort((a, b) => (better === "less" ? a - b : b - a));
  return {
    name,
    unit,
    better,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    n: sorted.length,
  };
}

/** @param {string} name @param {readonly number[]} samples @param {string} [unit] */
export const rate = (name, samples, unit = "MB/s") => figure(name, samples, unit, "more");

/** MB/s, with 10^6 bytes to the MB. @param {number} bytes @param {number} ms */
export const mbPerSecond = (bytes, ms) => bytes / 1e3 / ms;

/** @param {() => Promise<unknown>} work @returns {Promise<number>} milliseconds */
export async function took(work) {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/**
 * Times `n` calls one after the other, after some that do not count.
 *
 * @param {string} name
 * @param {number} n
 * @param {(i: number) => Promise<unknown>} work
 * @param {{ warmUp?: number }} [options]
 * @returns {Promise<Figure>}
 */
export async function timed(name, n, work, { warmUp = Math.min(20, n) } = {}) {
  for (let i = 0; i < warmUp; i++) await work(-1 - i);
  const samples = [];
  for (let i = 0; i < n; i++) samples.push(await took(() => work(i)));
  return figure(name, samples);
}

/**
 * Several ways of doing the same, taken in turns so that all meet the same machine.
 *
 * @param {number} n
 * @param {ReadonlyArray<readonly [name: string, work: (i: number) => Promise<number>]>} ways each returns what counts
 * @param {{ warmUp?: number }} [options]
 * @returns {Promise<Figure[]>} in the order of the ways
 */
export async function inTurns(n, ways, { warmUp = 1 } = {}) {
  const samples = ways.map(() => /** @type {number[]} */ ([]));
  for (let i = -warmUp; i < n; i++) {
    for (const { at, work } of shuffled(ways.map(([, work], at) => ({ at, work })))) {
      const sample = await work(i);
      if (i >= 0) samples[at]?.push(sample);
    }
  }
  return ways.map(([name], at) => figure(name, samples[at] ?? []));
}

/**
 * In another order each time: what one way does after its answer is the burden of the next.
 *
 * @template T
 * @param {readonly T[]} all
 * @returns {T[]}
 */
function shuffled(all) {
  const left = [...all];
  return all.flatMap(() => left.splice(Math.floor(Math.random() * left.length), 1));
}

/**
 * Something answered wrongly: the run fails, however fast it was.
 *
 * @param {unknown} holds
 * @param {string} what
 * @returns {asserts holds}
 */
export function must(holds, what) {
  if (!holds) throw new Error(`wrong answer: ${what}`);
}

/**
 * Looks again every few milliseconds until there is something; fails at the deadline.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T | undefined | false> | T | undefined | false} probe
 * @param {{ withinMs?: number, everyMs?: number }} [options]
 * @returns {Promise<T>}
 */
export async function eventually(what, probe, { withinMs = 60_000, everyMs = 5 } = {}) {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/**
 * Runs `work` for 0 … count-1, at most `width` at a time.
 *
 * @param {number} count
 * @param {number} width
 * @param {(i: number) => Promise<unknown>} work
 */
export async function parallel(count, width, work) {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
}
