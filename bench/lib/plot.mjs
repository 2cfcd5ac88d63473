// @ts-check
/** Pure: a curve as an SVG with logarithmic axes, legible on light and dark pages, in grey and for the colour-blind. */
import { curves } from "./curves.mjs";

/** @typedef {import("./bench.mjs").Curve} Curve @typedef {import("./curves.mjs").Scale} Scale */

const WIDTH = 720;
const LEFT = 76;
const RIGHT = 24;
const TOP = 44;
const PLOT_HEIGHT = 300;
const LEGEND_LINE = 22;
/** Okabe and Ito's, without those that vanish on white or on black. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];
const DASHES = ["", "7 4", "2 3", "10 3 2 3", "4 2", "1 2", "12 4"];

/** @param {Curve} curve @returns {string} */
export function plot({ id, series }) {
  const { title, x, y } = curves[id];
  const points = series.flatMap((each) => each.points);
  const across = axis(
    points.map(([value]) => value),
    x.scale,
    "exact",
  );
  const up = axis(
    points.map(([, value]) => value),
    y.scale,
  );
  const plotWidth = WIDTH - LEFT - RIGHT;
  const bottom = TOP + PLOT_HEIGHT;
  const legendTop = bottom + 62;
  const height = legendTop + Math.ceil(series.length / 2) * LEGEND_LINE;
  const toX = (/** @type {number} */ value) => round(LEFT + across.place(value) * plotWidth);
  const toY = (/** @type {number} */ value) => round(bottom - up.place(value) * PLOT_HEIGHT);
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">`,
    `<title id="title">${escaped(title)}</title>`,
    STYLE,
    `<rect class="page" width="${WIDTH}" height="${height}" rx="8"/>`,
    `<text class="title" x="${LEFT}" y="26">${escaped(title)}</text>`,
    ...up.ticks.map((tick) => {
      const at = toY(tick);
      return `<path class="grid" d="M${LEFT} ${at}H${WIDTH - RIGHT}"/><text class="tick" x="${LEFT - 8}" y="${at + 4}" text-anchor="end">${label(tick, y.scale)}</text>`;
    }),
    ...across.ticks.map((tick) => {
      const at = toX(tick);
      return `<path class="grid" d="M${at} ${TOP}V${bottom}"/><text class="tick" x="${at}" y="${bottom + 18}" text-anchor="middle">${label(tick, x.scale)}</text>`;
    }),
    `<text class="axis" x="${LEFT + plotWidth / 2}" y="${bottom + 40}" text-anchor="middle">${escaped(x.label)}</text>`,
    `<text class="axis" transform="translate(16 ${TOP + PLOT_HEIGHT / 2}) rotate(-90)" text-anchor="middle">${escaped(y.label)}</text>`,
    ...series.flatMap(({ name, points: own }, at) => {
      const path = own.map(([px, py], i) => `${i === 0 ? "M" : "L"}${toX(px)} ${toY(py)}`).join("");
      const legendX = LEFT + (at % 2) * (plotWidth / 2);
      const legendY = legendTop + Math.floor(at / 2) * LEGEND_LINE;
      return [
        `<g class="series" stroke="${COLOURS[at % COLOURS.length]}" fill="${COLOURS[at % COLOURS.length]}">`,
        `<path d="${path}" fill="none" stroke-dasharray="${DASHES[at % DASHES.length]}"/>`,
        ...own.map(([px, py]) => dot(toX(px), toY(py), at, `${name}: ${label(px, x.scale)}, ${label(py, y.scale)}`)),
        `<path d="M${legendX} ${legendY}h34" fill="none" stroke-dasharray="${DASHES[at % DASHES.length]}"/>${dot(legendX + 17, legendY, at)}`,
        "</g>",
        `<text class="legend" x="${legendX + 42}" y="${legendY + 4}">${escaped(name)}</text>`,
      ];
    }),
    "</svg>",
  ].join("\n")}\n`;
}

/** A page of its own, so that nothing depends on what is around it. */
const STYLE = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.tick { fill: #59636e }
.page { fill: #ffffff }
.grid { stroke: #d1d9e0; stroke-width: 1; fill: none }
.series { stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .tick { fill: #9198a1 } .page { fill: #0d1117 } .grid { stroke: #30363d } .series { filter: brightness(1.25) }
}
</style>`;

/** From whole power to whole power, or `exact`: from the least to the greatest. @param {readonly number[]} values @param {Scale} scale @param {"exact"} [ends] */
function axis(values, scale, ends) {
  const base = scale === "bytes" ? 2 ** 10 : 10;
  const positive = values.filter((value) => value > 0);
  if (positive.length === 0) throw new Error("a plot without points");
  const log = (/** @type {number} */ value) => Math.log(value) / Math.log(base);
  const [least, most] = [log(Math.min(...positive)), log(Math.max(...positive))];
  const isExact = ends === "exact" && most - least > 0.1;
  const first = isExact ? least : Math.floor(least + 1e-9);
  const last = isExact ? most : Math.max(first + 1, Math.ceil(most - 1e-9));
  const powers = Array.from({ length: 20 }, (_, i) => Math.floor(least) + i);
  const within = powers.filter((power) => power >= first - 1e-9 && power <= last + 1e-9);
  // The greatest is what one looks for first; it gets a label unless one stands close by.
  const ticks = within
    .filter((power) => !isExact || last - power < 1e-9 || last - power > 0.1)
    .map((power) => base ** power);
  if (isExact && !within.some((power) => last - power < 1e-9)) ticks.push(Math.max(...positive));
  return { ticks, place: (/** @type {number} */ value) => (Math.max(log(value), first) - first) / (last - first) };
}

/** A mark of its own for each series. @param {number} x @param {number} y @param {number} at @param {string} [title] */
function dot(x, y, at, title) {
  const told = title === undefined ? "" : `<title>${escaped(title)}</title>`;
  const shapes = [
    `<circle cx="${x}" cy="${y}" r="4">`,
    `<path d="M${x - 4} ${y - 4}h8v8h-8z">`,
    `<path d="M${x} ${y - 5}l5 9h-10z">`,
    `<path d="M${x} ${y - 5}l5 5l-5 5l-5-5z">`,
  ];
  const shape = shapes[at % shapes.length] ?? "";
  return `${shape}${told}</${shape.startsWith("<c") ? "circle" : "path"}>`;
}

/** @param {number} value @param {Scale} scale */
function label(value, scale) {
  if (scale === "bytes") {
    const power = Math.min(3, Math.max(0, Math.floor(Math.log2(value) / 10 + 1e-9)));
    return `${short(value / 2 ** (10 * power))} ${["B", "KiB", "MiB", "GiB"][power]}`;
  }
  if (scale === "count") return short(value);
  if (scale === "ms" && value >= 1_000) return `${short(value / 1_000)} s`;
  return `${short(value)} ${scale}`;
}

/** @param {number} value */
const short = (value) => String(Number(value.toPrecision(3)));
/** @param {number} value */
const round = (value) => Math.round(value * 10) / 10;
/** @param {string} text */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
