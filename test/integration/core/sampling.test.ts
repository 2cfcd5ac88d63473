import { expect, it, vi } from "vitest";
import { call, fakeOf, type TestProcess, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const never = 3_600_000;

/** A process whose samples are counted by sandbox. */
async function sampling(process: TestProcess, timing: { sampleMs: number; watchedMs: number }) {
  const told = new Map<string, number>();
  await process.keep({
    timing,
    onStats: ({ sandbox_id: id }) => void told.set(id, (told.get(id) ?? 0) + 1),
  });
  return { count: (id: string) => told.get(id) ?? 0 };
}

/** So many more rounds of the sampler. */
async function rounds(process: TestProcess, count: number): Promise<void> {
  const looked = vi.spyOn(process.stats, "watched");
  await eventually("the sampler looked again", () => looked.mock.calls.length >= count);
  looked.mockRestore();
}

it("those who ask for a sample at the same time cost the guest one answer", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await process.core.connections.guest(id);
  const asked = vi.spyOn(guest, "stats");
  const stop = new AbortController();
  const leaver = process.stats.sample(id, stop.signal);
  const others = Promise.all(Array.from({ length: 5 }, () => process.service.stats(id, call)));
  stop.abort();
  await expect(leaver).rejects.toMatchObject({ code: "ABORTED" });
  expect(new Set((await others).map((view) => JSON.stringify(view))).size).toBe(1);
  expect(asked).toHaveBeenCalledTimes(1);
  await process.service.stats(id, call);
  expect(asked).toHaveBeenCalledTimes(2);
});

it("a sandbox is sampled more often while somebody looks at it, and then no longer; others never", async () => {
  const process = await new World().process({ watchedForMs: 200 });
  const { count } = await sampling(process, { sampleMs: never, watchedMs: 10 });
  const [seen, unseen] = [await process.create(), await process.create()];
  await eventually("each was sampled once", () => count(seen) === 1 && count(unseen) === 1);
  await eventually("it is sampled again and again", async () => {
    await process.service.stats(seen, call);
    return count(seen) > 4;
  });
  await eventually("nobody looks any more", () => process.stats.watched().length === 0);
  await rounds(process, 3);
  const settled = count(seen);
  await rounds(process, 5);
  expect([count(seen), count(unseen)]).toEqual([settled, 1]);
});

it("one near its limit is sampled more often until it is not", async () => {
  const world = new World();
  const process = await world.process();
  const { count } = await sampling(process, { sampleMs: never, watchedMs: 10 });
  const id = await process.create();
  await eventually("it was sampled", () => count(id) === 1);
  const { guest } = fakeOf(world.engine, id);
  const answer = guest.stats.bind(guest);
  const eat = (used: number) => {
    guest.stats = () => {
      const stats = answer();
      return { ...stats, memory: { ...stats.memory, used_bytes: used * (stats.memory.limit_bytes ?? 0) } };
    };
  };
  eat(0.9);
  await process.stats.sample(id, call.signal);
  await eventually("it is sampled again and again", () => count(id) > 4);
  eat(0.5);
  await rounds(process, 3);
  const settled = count(id);
  await rounds(process, 5);
  expect(count(id)).toBe(settled);
});

it("a limit that is reached is followed by a sample at once", async () => {
  const world = new World();
  const process = await world.process();
  const { count } = await sampling(process, { sampleMs: never, watchedMs: 10 });
  const id = await process.create();
  await eventually("it was sampled", () => count(id) === 1);
  fakeOf(world.engine, id).guest.facts.add("limit", { limit: "pids", observed: 1, max: 1 });
  await eventually("it is sampled again", () => count(id) === 2);
});

it("what callers of a process that does not keep the sandboxes look at is sampled there", async () => {
  const world = new World();
  const [keeper, other] = [await world.process(), await world.process()];
  const kept = await sampling(keeper, { sampleMs: never, watchedMs: 10 });
  const { count } = await sampling(other, { sampleMs: never, watchedMs: 10 });
  const id = await other.create();
  await eventually("the keeper sampled it", () => kept.count(id) === 1);
  expect(count(id)).toBe(0);
  await other.service.stats(id, call);
  await eventually("it is sampled where it is looked at", () => count(id) > 2);
  expect(kept.count(id)).toBe(1);
});
