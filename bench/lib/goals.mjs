// @ts-check
/** What a number is to reach. A missed goal is told, and fails nothing. */

/**
 * @typedef {import("./measure.mjs").Figure} Figure
 * @typedef {"engine" | "floor" | "peer"} Role the engine's own call for it, what physics leave, the same in other circumstances
 * @typedef {{ ours: Figure } & { [role in Role]?: Figure }} Measured
 * @typedef {(row: Measured) => { text: string, met: boolean }} Goal
 */

/** @param {number} limit @param {"p50" | "p95" | "p99"} [q] @returns {Goal} */
export const atMost =
  (limit, q = "p50") =>
  ({ ours }) => ({ text: `${q === "p50" ? "" : `${q} `}≤ ${limit} ${ours.unit}`, met: ours[q] <= limit });

/** @param {number} limit @returns {Goal} */
export const atLeast =
  (limit) =>
  ({ ours }) => ({ text: `≥ ${limit} ${ours.unit}`, met: ours.p50 >= limit });

/** @param {number} times @returns {Goal} */
export const fasterThanEngine =
  (times) =>
  ({ ours, engine }) => ({ text: `≥ ${times}× faster`, met: engine !== undefined && engine.p50 / ours.p50 >= times });

/** @param {number} times @param {Role} [role] @returns {Goal} */
export const atMostTimes =
  (times, role = "engine") =>
  (row) => {
    const other = row[role];
    return {
      text: `≤ ${times}× ${role === "engine" ? "raw" : "that"}`,
      met: other !== undefined && row.ours.p50 <= other.p50 * times,
    };
  };
