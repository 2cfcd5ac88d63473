import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { startProgress } from "../../../src/server/progress.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function started() {
  const sent: { at: number; count: number; message: string }[] = [];
  const begin = Date.now();
  const progress = startProgress(
    (count, message) => sent.push({ at: Date.now() - begin, count, message }),
    () => Date.now(),
  );
  return { sent, progress };
}

it("beats at least every 5 s while nothing is said", () => {
  const { sent } = started();
  vi.advanceTimersByTime(21_000);
  expect(sent.map(({ at }) => at)).toEqual([4000, 8000, 12_000, 16_000, 20_000]);
  expect(sent[1]).toMatchObject({ count: 2, message: "working (8 s)" });
});

it("sends at most four a second, the newest last", () => {
  const { sent, progress } = started();
  for (let i = 0; i <= 100; i++) {
    progress.report(`step ${i}`);
    vi.advanceTimersByTime(10);
  }
  vi.advanceTimersByTime(1000);
  expect(sent.length).toBeLessThanOrEqual(6);
  expect(sent[0]).toMatchObject({ at: 0, message: "step 0" });
  expect(sent.at(-1)?.message).toBe("step 100");
  sent.slice(1).forEach(({ at, count }, i) => {
    expect(at - (sent[i]?.at ?? 0)).toBeGreaterThanOrEqual(250);
    expect(count).toBe(i + 2);
  });
});

it("repeats the last word in a heartbeat", () => {
  const { sent, progress } = started();
  progress.report("pulling");
  vi.advanceTimersByTime(4000);
  expect(sent.at(-1)?.message).toBe("pulling (4 s)");
});

it("cuts at 1 KiB, on whole characters", () => {
  const { sent, progress } = started();
  progress.report("€".repeat(5000));
  expect(Buffer.byteLength(sent[0]?.message ?? "")).toBeLessThanOrEqual(1024);
  expect(sent[0]?.message).toMatch(/^€+…$/);
});

it("is silent once stopped", () => {
  const { sent, progress } = started();
  progress.stop();
  progress.report("late");
  vi.advanceTimersByTime(60_000);
  expect(sent).toEqual([]);
});
