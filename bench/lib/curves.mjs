// @ts-check
/** The plots of docs/performance.md. */

/**
 * @typedef {"bytes" | "count" | "ms" | "MiB" | "%"} Scale
 * @typedef {{ title: string, x: { label: string, scale: Scale }, y: { label: string, scale: Scale } }} CurveDefinition
 * @typedef {keyof typeof curves} CurveId
 */

export const curves = /** @satisfies {Record<string, CurveDefinition>} */ ({
  "execs-at-once": {
    title: "Commands started at once, until all have answered",
    x: { label: "commands at once", scale: "count" },
    y: { label: "time for all of them", scale: "ms" },
  },
  bytes: {
    title: "Moving bytes in and out of a sandbox",
    x: { label: "bytes", scale: "bytes" },
    y: { label: "time for all of them", scale: "ms" },
  },
  "sandboxes-time": {
    title: "A call while so many idle sandboxes live",
    x: { label: "sandboxes", scale: "count" },
    y: { label: "time of one call, p50", scale: "ms" },
  },
  "sandboxes-memory": {
    title: "What idle sandboxes hold",
    x: { label: "sandboxes", scale: "count" },
    y: { label: "resident memory", scale: "MiB" },
  },
});

/** The sizes of the plot over bytes. @param {boolean} quick */
export const sizes = (quick) => (quick ? [10, 15, 20] : [10, 15, 20, 25, 30]).map((power) => 2 ** power);
