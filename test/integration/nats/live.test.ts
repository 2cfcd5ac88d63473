import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { openLink } from "../../../src/events/connection.ts";
import { startLive } from "../../../src/events/live.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, type Received, read, recordingLogger } from "../../support/nats.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

const capacity = { cpus: 2, memory_bytes: 1, sandboxes: 0, sandboxes_limit: 1, memory_used_mb: 0, memory_limit_mb: 1 };
const nothing = { used_bytes: null, limit_bytes: null };
const stats = {
  sampled_at: "2026-01-01T00:00:00Z",
  uptime_ms: 1,
  cpu: { usage_ms: 1, usage_pct: 1, throttled_ms: 0, limit_cpus: 1 },
  memory: { ...nothing, peak_bytes: null, oom_kills: null },
  pids: { current: 1, limit: 2 },
  workspace: nothing,
  network: { rx_bytes: null, tx_bytes: null },
  io: { read_bytes: null, write_bytes: null },
  execs: { running: 0, total: 0 },
};
const sandbox = { sandbox_id: "sb_1", tenant: "t", labels: { a: "b" }, state: "running" } as const;

it("tells stats and the host while connected, and drops them otherwise", async () => {
  const server = await startNats();
  const nc = await consumer(server.url);
  open.push({ [Symbol.asyncDispose]: () => nc.close() });
  const heard: Received[] = [];
  nc.subscribe("chorus.sandbox.v1.>", { callback: (_, message) => heard.push(read(message)) });
  await nc.flush();
  const link = openLink({ login: { servers: [server.url] }, name: "test", logger: recordingLogger().logger });
  open.push(link);
  let speaks = false;
  const hostUp = () => ({ version: "1", capacity });
  const live = startLive({ link, host: "h.1", tenant: "default", hostUp, speaks: () => speaks, everyMs: 50 });
  open.push(live);
  await link.up(new AbortController().signal);

  expect(live.stats(sandbox, stats)).toBe(true);
  await eventually("stats arrive", () => heard.length === 1);
  expect(heard[0]).toMatchObject({
    subject: "chorus.sandbox.v1.h-X2E1.t.sb_1.stats.sampled",
    event: {
      type: "dev.chorus.sandbox.stats.sampled.v1",
      data: { sandbox_id: "sb_1", uptime_ms: 1, labels: { a: "b" } },
    },
  });
  speaks = true;
  await eventually(
    "the host is heard twice",
    () => heard.filter(({ event }) => event.type.includes("host.up")).length >= 2,
  );
  expect(heard.at(-1)).toMatchObject({
    subject: "chorus.sandbox.v1.h-X2E1.default._host.host.up",
    event: { subject: "_host", data: { sandbox_id: "_host", version: "1", capacity } },
  });

  await crash(server);
  await eventually("the loss is noticed", () => !link.status().connected);
  expect(live.stats(sandbox, { ...stats, uptime_ms: 2 })).toBe(false);
  open.push(await again(server));
  await eventually("both are back", () => live.stats(sandbox, { ...stats, uptime_ms: 3 }));
  await eventually("stats arrive again", () => {
    live.stats(sandbox, { ...stats, uptime_ms: 3 });
    return heard.some(({ event }) => event.data["uptime_ms"] === 3);
  });
  expect(heard.some(({ event }) => event.data["uptime_ms"] === 2)).toBe(false);
});
