// @ts-check
/** Measuring and showing: samples in, percentiles and ratios out. */

/**
 * @typedef {{ name: string, unit: string, p50: number, p95: number, p99: number, n: number }} Figure
 * @typedef {{ what: string, ours: Figure, raw?: Figure, goal?: string, met?: boolean }} Row
 */

/** @param {readonly number[]} sorted @param {number} q */
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

/**
 * @param {string} name
 * @param {readonly number[]} samples
 * @param {string} [unit]
 * @returns {Figure}
 */
export function figure(name, samples, unit = "ms") {
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    name,
    unit,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    n: sorted.length,
  };
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
  for (let i = 0; i < n; i++) {
    const started = performance.now();
    await work(i);
    samples.push(performance.now() - started);
  }
  return figure(name, samples);
}

/**
 * Two ways of doing the same, taken in turns so that both meet the same machine.
 *
 * @param {number} n
 * @param {[string, (i: number) => Promise<number>]} first each returns the milliseconds that count
 * @param {[string, (i: number) => Promise<number>]} second
 * @returns {Promise<[Figure, Figure]>}
 */
export async function inTurns(n, [firstName, first], [secondName, second]) {
  await first(-1);
  await second(-1);
  /** @type {number[]} */
  const a = [];
  /** @type {number[]} */
  const b = [];
  for (let i = 0; i < n; i++) {
    a.push(await first(i));
    b.push(await second(i));
  }
  return [figure(firstName, a), figure(secondName, b)];
}

/** @param {number} value */
const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** @param {readonly Row[]} rows */
export function table(rows) {
  const cells = [
    ["what", "p50", "p95", "p99", "n", "beside it", "p50", "ratio", "goal", ""],
    ...rows.map(({ what, ours, raw, goal, met }) => [
      what,
      `${number(ours.p50)} ${ours.unit}`,
      number(ours.p95),
      number(ours.p99),
      String(ours.n),
      raw?.name ?? "",
      raw ? `${number(raw.p50)} ${raw.unit}` : "",
      raw ? ratio(ours.p50, raw.p50) : "",
      goal ?? "",
      met === undefined ? "" : met ? "met" : "missed",
    ]),
  ];
  const widths = cells[0]?.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? "").length))) ?? [];
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** @param {number} ours @param {number} raw */
const ratio = (ours, raw) => (raw >= ours * 2 ? `${number(raw / ours)}× faster` : `${(ours / raw).toFixed(2)}×`);
