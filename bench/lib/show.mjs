// @ts-check
/** Pure: what a report looks like, on a terminal and in docs/performance.md. */
import { curves } from "./curves.mjs";

/**
 * @typedef {import("./bench.mjs").Row} Row
 * @typedef {import("./measure.mjs").Figure} Figure
 * @typedef {import("./goals.mjs").Role} Role
 * @typedef {{ format: 1, machine: import("./machine.mjs").Machine, seconds: number, options: { quick: boolean, only: string[], sandboxes: number },
 *   themes: { name: string, title: string }[], rows: Row[], curves: import("./bench.mjs").Curve[],
 *   skipped: { theme: string, why: string }[], failures: import("./bench.mjs").Failure[] }} Report
 */

const ROLES = /** @type {const} */ (["engine", "floor", "peer"]);

/** @param {number} value */
export const number = (value) => {
  if (value >= 100_000) return `${Math.round(value / 1_000)}k`;
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
};

/** @param {Figure} ours @param {Figure} other @param {Role} role */
function ratio(ours, other, role) {
  const times = other.p50 / ours.p50;
  const faster = ours.better === "less" ? times : 1 / times;
  if (role === "engine" && faster >= 1.5) return `${number(faster)}× faster than it`;
  return `${number(ours.p50 / other.p50)}× of it`;
}

/** @param {Row} row @returns {string[]} */
const beside = (row) =>
  ROLES.flatMap((role) => {
    const other = row[role];
    if (!other) return [];
    const name = role === "floor" ? `floor: ${other.name}` : other.name;
    return [`${name} ${number(other.p50)} ${other.unit} (${ratio(row.ours, other, role)})`];
  });

/** @param {Row} row */
const goalText = (row) => row.goals.map(({ text, met }) => `${text} ${met ? "met" : "MISSED"}`).join(", ");

/** @param {Row} row @returns {string[]} */
const cells = ({ ours, ...row }) => [
  row.what,
  `${number(ours.p50)} ${ours.unit}`,
  ours.n > 1 ? number(ours.p95) : "",
  ours.n > 1 ? number(ours.p99) : "",
  String(ours.n),
];

/** @param {Report} report */
export function terminalTable(report) {
  const heads = ["", "p50", "p95", "p99", "n", "goal", "beside it"];
  const lines = report.themes.flatMap(({ name, title }) => {
    const rows = report.rows.filter((row) => row.theme === name);
    return [
      { title },
      ...rows.flatMap((row) => [
        { cells: [...cells(row), goalText(row), beside(row).join(" · ")] },
        ...(row.note ? [{ title: `    ${row.note}` }] : []),
      ]),
      ...report.skipped.filter(({ theme }) => theme === name).map(({ why }) => ({ title: `    not measured: ${why}` })),
    ];
  });
  const all = [{ cells: heads }, ...lines];
  const widths = heads.map((_, at) =>
    Math.max(...all.map((line) => ("cells" in line ? (line.cells[at] ?? "").length : 0))),
  );
  return all
    .map((line) =>
      "cells" in line
        ? `  ${line.cells.map((cell, at) => (at > 0 && at < 5 ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0))).join("  ")}`.trimEnd()
        : `${line.title.startsWith(" ") ? "" : "\n"}${line.title}`,
    )
    .join("\n");
}

/** @param {Report} report */
export function verdict({ rows, failures, seconds }) {
  const goals = rows.flatMap((row) => row.goals);
  const missed = rows.filter((row) => row.goals.some(({ met }) => !met));
  return [
    `${goals.filter(({ met }) => met).length} of ${goals.length} goals met, in ${Math.round(seconds)} s.`,
    ...missed.map((row) => `  missed: ${row.what}: ${number(row.ours.p50)} ${row.ours.unit} (${goalText(row)})`),
    ...failures.map(({ theme, error }) => `  FAILED: ${theme}: ${error.split("\n")[0]}`),
  ].join("\n");
}

/** The generated part of docs/performance.md. @param {Report} report */
export function markdown(report) {
  const { machine, seconds, themes } = report;
  const escaped = (/** @type {string} */ text) => text.replaceAll("|", "\\|");
  const line = (/** @type {string[]} */ row) => `| ${row.map(escaped).join(" | ")} |`;
  const tables = themes.flatMap(({ name, title }) => {
    const rows = report.rows.filter((row) => row.theme === name);
    if (rows.length === 0) return [];
    const notes = rows.flatMap(({ what, note }) => (note ? [`- ${what}: ${note}.`] : []));
    const skipped = report.skipped.filter(({ theme }) => theme === name).map(({ why }) => `- Not measured: ${why}.`);
    return [
      `### ${title}`,
      "",
      "| | p50 | p95 | p99 | n | goal | beside it, p50 |",
      "|---|---:|---:|---:|---:|---|---|",
      ...rows.map((row) => line([...cells(row), goalText(row), beside(row).join("; ")])),
      ...(notes.length + skipped.length > 0 ? ["", ...notes, ...skipped] : []),
      "",
    ];
  });
  const plots = report.curves.map(({ id }) => `![${curves[id].title}](performance/${id}.svg)`);
  const when = `Measured ${machine.at.slice(0, 10)} at ${machine.commit}, in ${Math.round(seconds)} s: ${machine.line}.`;
  return [when, "", ...tables, "### How cost grows", "", plots.join("\n\n")].join("\n");
}
