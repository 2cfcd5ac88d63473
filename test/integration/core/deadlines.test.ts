import { setTimeout as delay } from "node:timers/promises";
import { expect, it, onTestFinished, vi } from "vitest";
import { abortable } from "../../../src/sandbox/wait.ts";
import { call, recordOf, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

const late = { code: "TIMEOUT", retryable: true };

/** A hundredth of every deadline: 15 s become 150 ms. */
function shortDeadlines(): void {
  const { timeout } = AbortSignal;
  const spy = vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => timeout.call(AbortSignal, ms / 100));
  onTestFinished(() => spy.mockRestore());
}

it("an engine that takes too long to reach a new guest fails the create as TIMEOUT, for the agent and in the journal", async () => {
  const process = await new World().process();
  shortDeadlines();
  process.backend.hooks.connect = () => delay(155);
  await expect(process.create()).rejects.toMatchObject({ ...late, next: expect.not.stringContaining("Nothing to do") });
  const [failed] = process.store.journal.after(0, { limit: 10 }).filter(({ type }) => type === "lifecycle.failed");
  expect(failed?.data).toMatchObject({ ...late, stage: "guest" });
});

it("what a dead creator left and nobody can reach is told as failed for that, not taken for a server that closes", async () => {
  const world = new World();
  const [one, two] = [await world.process(), await world.process()];
  one.backend.hooks.connect = () => new Promise(() => {});
  const { sandbox_id: id } = await one.service.create({ wait_s: 0 }, call);
  await eventually("it runs", () => world.engine.sandboxes.has(id));
  await one.store.write((tx) => tx.putSandbox({ ...recordOf(one.store, id), creator: "ps_dead" }));
  shortDeadlines();
  two.backend.hooks.connect = () => delay(250);
  await two.keep();
  await eventually("it failed", () => recordOf(two.store, id).state === "failed");
  expect(told(two.store, id, "lifecycle.failed")).toMatchObject([late]);
  await eventually("nothing is left", () => world.engine.sandboxes.size === 0);
});

it("a guest that does not tell its stats is TIMEOUT", async () => {
  const process = await new World().process();
  const id = await process.create();
  const guest = await process.core.connections.guest(id);
  vi.spyOn(guest, "stats").mockImplementation((signal) => abortable(new Promise(() => {}), signal));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const asked = expect(process.service.stats(id, call)).rejects.toMatchObject(late);
  await vi.advanceTimersByTimeAsync(10_000);
  await asked;
});
