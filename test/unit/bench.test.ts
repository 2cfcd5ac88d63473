import { describe, expect, it } from "vitest";
import { replaceGenerated } from "../../bench/lib/document.mjs";
import { atLeast, atMost, atMostTimes, fasterThanEngine } from "../../bench/lib/goals.mjs";
import { figure, parallel, rate } from "../../bench/lib/measure.mjs";
import { plot } from "../../bench/lib/plot.mjs";
import { markdown } from "../../bench/lib/show.mjs";
import { findings, slope } from "../../bench/soak/verdict.mjs";

const hundred = Array.from({ length: 100 }, (_, i) => i + 1);

describe("figures", () => {
  it("have percentiles towards the bad end", () => {
    expect(figure("a", hundred.toReversed())).toMatchObject({ p50: 51, p95: 96, p99: 100, n: 100 });
    expect(rate("a", hundred)).toMatchObject({ p50: 50, p95: 5, p99: 1, unit: "MB/s" });
    expect(() => figure("a", [])).toThrow("nothing was measured");
  });

  it("are held against their goals", () => {
    const ours = figure("ours", [2]);
    const engine = figure("engine", [50]);
    expect(atMost(2)({ ours })).toEqual({ text: "≤ 2 ms", met: true });
    expect(atMost(1, "p99")({ ours })).toEqual({ text: "p99 ≤ 1 ms", met: false });
    expect(atLeast(100)({ ours: rate("ours", [99]) })).toEqual({ text: "≥ 100 MB/s", met: false });
    expect(fasterThanEngine(30)({ ours, engine })).toMatchObject({ met: false });
    expect(fasterThanEngine(25)({ ours, engine })).toMatchObject({ met: true });
    expect(atMostTimes(1.1)({ ours, engine: figure("engine", [1.9]) })).toMatchObject({ met: true });
    expect(atMostTimes(1.1, "peer")({ ours, engine })).toMatchObject({ met: false });
  });

  it("come from work that is done once each, few at a time", async () => {
    const done: number[] = [];
    let now = 0;
    let most = 0;
    await parallel(20, 3, async (i) => {
      most = Math.max(most, ++now);
      await new Promise(setImmediate);
      now -= 1;
      done.push(i);
    });
    expect(done.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(most).toBe(3);
  });
});

describe("the report", () => {
  it("replaces the generated part of the page and nothing else", () => {
    const page = replaceGenerated(
      "before\n<!-- npm run bench -- --write: begin -->\nold\n<!-- npm run bench -- --write: end -->\nafter\n",
      "new",
    );
    expect(page).toBe(
      "before\n<!-- npm run bench -- --write: begin -->\n\nnew\n\n<!-- npm run bench -- --write: end -->\nafter\n",
    );
    expect(() => replaceGenerated("no marks", "new")).toThrow("lacks the lines");
  });

  it("says what was missed, what stood beside it and what was not measured", () => {
    const ours = figure("exec_run", [2]);
    const text = markdown({
      format: 1,
      machine: { line: "a machine", load: 0, at: "2026-01-01T00:00:00.000Z", commit: "abc" },
      seconds: 1,
      options: { quick: false, only: [], sandboxes: 1 },
      themes: [{ name: "exec", title: "Commands" }],
      rows: [
        {
          theme: "exec",
          id: "exec.true",
          what: "true | false",
          ours,
          engine: figure("docker exec", [50]),
          floor: figure("fork + exec", [0.5]),
          goals: [atMost(1)({ ours })],
        },
      ],
      curves: [{ id: "bytes", series: [] }],
      skipped: [{ theme: "exec", why: "no pool" }],
      failures: [],
    });
    expect(text).toContain(
      "| true \\| false | 2.00 ms |  |  | 1 | ≤ 1 ms MISSED | docker exec 50.0 ms (25.0× faster than it); floor: fork + exec 0.50 ms (4.00× of it) |",
    );
    expect(text).toContain("- Not measured: no pool.");
    expect(text).toContain("(performance/bytes.svg)");
  });
});

describe("a plot", () => {
  it("places points by their logarithm and escapes names", () => {
    const svg = plot({
      id: "bytes",
      series: [
        {
          name: "a < b & c",
          points: [
            [2 ** 10, 1],
            [2 ** 20, 10],
            [2 ** 30, 100],
          ],
        },
      ],
    });
    const [path = ""] = svg.match(/M[\d.]+ [\d.]+L[^"]+/) ?? [];
    const [[x1, y1], [x2, y2], [x3, y3]] = path
      .slice(1)
      .split("L")
      .map((point) => point.split(" ").map(Number)) as [[number, number], [number, number], [number, number]];
    expect(x2 - x1).toBeCloseTo(x3 - x2);
    expect(y1 - y2).toBeCloseTo(y2 - y3);
    expect(y1).toBeGreaterThan(y3);
    expect(svg).toContain("a &lt; b &amp; c");
    for (const label of ["1 KiB", "1 MiB", "1 GiB", "1 ms", "100 ms"]) expect(svg).toContain(`>${label}<`);
    expect(svg).toContain("prefers-color-scheme: dark");
  });
});

describe("the verdict of a soak", () => {
  const looks = (change: (i: number) => object) =>
    Array.from({ length: 21 }, (_, i) => ({
      execs: i * 1_000,
      creates: i * 10,
      heap_mb: 30 + (i % 3),
      anon_mb: i < 4 ? 80 + i * 20 : 150 + (i % 3) * 8,
      rss_mb: 200 + i * 2,
      fds: 40 + (i % 2),
      store_mb: i * 2,
      containers: 0,
      volumes: 2,
      guest_mb: 9,
      per_s: 100,
      ...change(i),
    }));
  const grows = (change: (i: number) => object) =>
    findings(looks(change)).flatMap(({ ok, what }) => (ok ? [] : [what]));

  it("takes warming up and noise for what they are", () => {
    expect(grows(() => ({}))).toEqual([]);
  });

  it.each([
    ["memory in use in the server", (i: number) => ({ heap_mb: 30 + (i % 3) + i / 3 })],
    [
      "resident memory of the server, without its mapped store",
      (i: number) => ({ anon_mb: 150 + i * 2 + (i % 3) * 8 }),
    ],
    ["file descriptors of the server", (i: number) => ({ fds: 40 + i })],
    ["RSS of a guest", (i: number) => ({ guest_mb: 9 + i / 2 })],
    ["containers beyond the live sandboxes", (i: number) => ({ containers: Math.floor(i / 3) })],
    ["volumes", (i: number) => ({ volumes: i })],
    ["store on the disk", (i: number) => ({ store_mb: i * 5 })],
  ])("finds that %s grows", (what, change) => {
    expect(grows(change)).toEqual([what]);
  });

  it("does not judge what it hardly saw", () => {
    expect(() => findings(looks(() => ({})).slice(0, 2))).toThrow("too few looks");
    expect(slope([[1, 5]])).toBe(0);
  });
});
