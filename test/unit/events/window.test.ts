import { expect, it } from "vitest";
import { Window } from "../../../src/events/window.ts";

it("keeps the floor below the first entry that is not acknowledged, whatever the order", () => {
  const window = new Window(10, { maxEntries: 100, maxBytes: 100 });
  const [a, b, c] = [11, 13, 14].map((cursor) => window.enter(cursor, 5));
  if (!a || !b || !c) throw new Error("no slots");
  window.ack(c);
  expect(window.floor).toBe(10);
  window.ack(a);
  expect(window.floor).toBe(11);
  window.ack(b);
  window.ack(b);
  expect([window.floor, window.size, window.bytes]).toEqual([14, 0, 0]);
});

it("has room up to its entries and up to its bytes", () => {
  const window = new Window(0, { maxEntries: 2, maxBytes: 10 });
  const first = window.enter(1, 10);
  expect(window.hasRoom).toBe(false);
  window.ack(first);
  expect(window.hasRoom).toBe(true);
  window.enter(2, 1);
  window.ack(window.enter(3, 1));
  expect(window.hasRoom).toBe(false);
});

it("stays right over many entries", () => {
  const window = new Window(0, { maxEntries: 1_000, maxBytes: 1e9 });
  let cursor = 0;
  for (let round = 0; round < 50; round += 1) {
    const slots = Array.from({ length: 500 }, () => window.enter(++cursor, 1));
    for (const slot of slots.reverse()) window.ack(slot);
    expect([window.floor, window.size]).toEqual([cursor, 0]);
  }
});
