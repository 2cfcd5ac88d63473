// @ts-check
/** One run of the benchmark: what its themes are given, and what they hand in. */
import { curves } from "./curves.mjs";

/**
 * @typedef {import("./measure.mjs").Figure} Figure
 * @typedef {import("./goals.mjs").Goal} Goal
 * @typedef {import("./goals.mjs").Measured} Measured
 * @typedef {import("./curves.mjs").CurveId} CurveId
 *
 * @typedef {Measured & { theme: string, id: string, what: string, goals: { text: string, met: boolean }[], note?: string }} Row
 * @typedef {Measured & { id: string, what: string, goals?: Goal[], note?: string }} NewRow
 * @typedef {{ id: CurveId, series: { name: string, points: [x: number, y: number][] }[] }} Curve
 * @typedef {{ theme: string, error: string }} Failure
 * @typedef {{ name: string, title: string, run: (bench: Bench) => Promise<void> }} Theme
 */

export class Bench {
  /** @type {Row[]} */
  rows = [];
  /** @type {Curve[]} */
  curves = [];
  /** @type {Failure[]} */
  failures = [];
  /** @type {{ theme: string, why: string }[]} */
  skipped = [];
  #theme = "";

  /** @param {{ quick: boolean, sandboxes: number, say: (text: string) => void }} options */
  constructor({ quick, sandboxes, say }) {
    this.quick = quick;
    this.sandboxes = sandboxes;
    this.say = say;
  }

  /** How many samples: a tenth with --quick. @param {number} full @param {number} [quick] */
  samples(full, quick = Math.max(5, Math.round(full / 10))) {
    return this.quick ? quick : full;
  }

  /** @param {NewRow} row */
  row({ goals = [], ...row }) {
    const done = { theme: this.#theme, ...row, goals: goals.map((goal) => goal(row)) };
    this.rows.push(done);
    this.say(`  ${row.what}`);
  }

  /** What this machine or this build cannot be measured in. @param {string} why */
  skip(why) {
    this.skipped.push({ theme: this.#theme, why });
    this.say(`  not measured: ${why}`);
  }

  /** A point of a plot. @param {CurveId} id @param {string} name of its series @param {number} x @param {number} y */
  point(id, name, x, y) {
    if (!(id in curves)) throw new Error(`no plot is called ${id}`);
    const curve = this.curves.find((known) => known.id === id) ?? appended(this.curves, { id, series: [] });
    const series = curve.series.find((known) => known.name === name) ?? appended(curve.series, { name, points: [] });
    series.points.push([x, y]);
  }

  /** Runs a theme; one that fails leaves the others to run. @param {Theme} theme */
  async run(theme) {
    this.#theme = theme.name;
    this.say(theme.title);
    try {
      await theme.run(this);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.failures.push({ theme: theme.name, error: text });
      this.say(`  FAILED: ${text}`);
    }
  }
}

/** @template T @param {T[]} list @param {T} item */
function appended(list, item) {
  list.push(item);
  return item;
}
