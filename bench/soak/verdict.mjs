// @ts-check
/** Pure: what a series of looks at a server says about growth. */

/**
 * @typedef {object} Look
 * @property {number} execs how many were done by then
 * @property {number} creates
 * @property {number} heap_mb of the server: objects and buffers that are still in use
 * @property {number} anon_mb of the server: resident memory of its own, without files it has mapped (the store is one)
 * @property {number} rss_mb of the server, with them
 * @property {number} fds of the server
 * @property {number} store_mb on the disk
 * @property {number} containers of this install, beyond the sandboxes that live
 * @property {number} volumes on the engine
 * @property {number} guest_mb resident memory of the guest that lives through it all
 * @property {number} per_s execs a second since the last look
 *
 * @typedef {"heap_mb" | "anon_mb" | "fds" | "store_mb" | "containers" | "volumes" | "guest_mb"} Quantity
 * @typedef {{ what: string, grown: string, bound: string, ok: boolean }} Finding
 */

/** What comes before is warming up: caches fill, code is compiled, heaps find their size. */
const WARM_UP = 0.25;

/** Growth after warm-up that is still none: what a heap or a look at the wrong moment differs by. */
const BOUNDS = /** @satisfies {Partial<Record<Quantity, { what: string, most: number, unit: string }>>} */ ({
  heap_mb: { what: "memory in use in the server", most: 4, unit: "MiB" },
  anon_mb: { what: "resident memory of the server, without its mapped store", most: 24, unit: "MiB" },
  fds: { what: "file descriptors of the server", most: 4, unit: "" },
  guest_mb: { what: "RSS of a guest", most: 4, unit: "MiB" },
  containers: { what: "containers beyond the live sandboxes", most: 2, unit: "" },
  volumes: { what: "volumes", most: 2, unit: "" },
});

/** The store keeps the events, up to its bound, and what became of every command, for seven days: so much for each, and no more. */
const STORE_KIB_PER_EXEC = 4;
/** Of its own: a create with all its events and records. */
const STORE_KIB_PER_CREATE = 24;

/** @param {readonly Look[]} looks @returns {Finding[]} */
export function findings(looks) {
  const last = looks.at(-1);
  if (!last) throw new Error("nobody looked");
  const warm = looks.filter(({ execs }) => execs >= last.execs * WARM_UP);
  if (warm.length < 3) throw new Error("too few looks to tell growth from noise");
  const first = warm[0] ?? last;
  const span = last.execs - first.execs;
  const grown = Object.entries(BOUNDS).map(([key, { what, most, unit }]) => {
    // The key is one of BOUNDS, which are all quantities.
    const quantity = /** @type {keyof typeof BOUNDS} */ (key);
    const growth = slope(warm.map((look) => [look.execs, look[quantity]])) * span;
    const text = `${signed(growth)} ${unit} over ${span} execs`.replace("  ", " ");
    return { what, grown: text, bound: `≤ ${most} ${unit}`.trimEnd(), ok: growth <= most };
  });
  const storeMb = last.store_mb - first.store_mb;
  const mostMb = (span * STORE_KIB_PER_EXEC + (last.creates - first.creates) * STORE_KIB_PER_CREATE) / 1_024;
  const store = {
    what: "store on the disk",
    grown: `${signed(storeMb)} MiB over ${span} execs and ${last.creates - first.creates} creates`,
    bound: `≤ ${mostMb.toFixed(0)} MiB: ${STORE_KIB_PER_EXEC} KiB an exec, ${STORE_KIB_PER_CREATE} a create`,
    ok: storeMb <= mostMb,
  };
  return [...grown, store];
}

/** Of the line through the points, by least squares. @param {ReadonlyArray<readonly [x: number, y: number]>} points */
export function slope(points) {
  const mean = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  const spread = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
  return spread === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / spread;
}

/** @param {number} value */
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
