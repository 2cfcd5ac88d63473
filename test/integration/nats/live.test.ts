import { afterEach, expect, it, vi } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { openLink } from "../../../src/events/connection.ts";
import { startLive } from "../../../src/events/live.ts";
import { startPublisher } from "../../../src/events/publisher.ts";
import { MemoryBackend } from "../../../src/sandbox/backends/memory/memory.ts";
import type { HostUp } from "../../../src/sandbox/events.ts";
import { hostOffer } from "../../../src/sandbox/host-up.ts";
import { effectivePolicy } from "../../../src/sandbox/policy.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, type Received, read, recordingLogger } from "../../support/nats.ts";
import { MemoryJournal, MemoryRoles } from "../../support/nats-journal.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

const heardOn = async (url: string, filter: string): Promise<Received[]> => {
  const nc = await consumer(url);
  open.push({ [Symbol.asyncDispose]: () => nc.close() });
  const heard: Received[] = [];
  nc.subscribe(filter, { callback: (_, message) => heard.push(read(message)) });
  await nc.flush();
  return heard;
};

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
  const heard = await heardOn(server.url, "chorus.sandbox.v1.>");
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

it("keeps nothing of the times it told the host", async () => {
  const server = await startNats();
  open.push(server);
  const heard = await heardOn(server.url, "chorus.sandbox.v1.*.*._host.host.up");
  const link = openLink({ login: { servers: [server.url] }, name: "test", logger: recordingLogger().logger });
  open.push(link);
  const made = vi.spyOn(AbortSignal, "any");
  const hostUp = () => ({ version: "1", capacity });
  open.push(startLive({ link, host: "h1", tenant: "default", hostUp, speaks: () => true, everyMs: 5 }));
  await eventually("it was told often", () => heard.length > 20);
  expect(made.mock.calls.length).toBeLessThan(3);
});

const noRightToCreate = `authorization { users = [ { user: "h", password: "h", permissions: {
  publish: { allow: ">", deny: "$JS.API.STREAM.CREATE.>" }, subscribe: ">" } } ] }
no_auth_user: h`;

it.each([
  ["without JetStream", { jetstream: false }, /JetStream answers .*not enabled/],
  ["without the right to create the stream", { config: noRightToCreate }, /JetStream answers .*ermissions/],
])("%s one process of an install tells the host, and what holds the events back", async (_, options, reason) => {
  const server = await startNats(options);
  open.push(server);
  const heard = await heardOn(server.url, "chorus.sandbox.v1.*.*._host.host.up");
  const journal = new MemoryJournal();
  journal.emit("sb_1", { ageMs: 60_000 });
  const roles = new MemoryRoles();
  const publisher = (version: string) => {
    const started = startPublisher({
      login: { servers: [server.url] },
      store: { journal, roles: roles.of(version), flushed: async () => {}, processId: version },
      host: "h1",
      tenant: "default",
      hostUp: () => ({ version, capacity }),
      logger: recordingLogger().logger,
    });
    open.push(started);
    return started;
  };
  const versions = () => heard.map(({ event }) => event.data["version"]);
  const one = publisher("one");
  await eventually("the host is told", () => heard.length > 0);
  const two = publisher("two");
  await eventually("the second stands by", () => two.status().relay.state === "standby");
  await eventually("the reason is known", () => one.status().relay.error);

  expect(one.undelivered()).toMatch(reason);
  expect(two.undelivered()).toContain("the server that relays logs the reason");
  expect(versions()).toEqual(["one"]);

  await one[Symbol.asyncDispose]();
  await eventually("the second tells it", () => heard.length > 1);
  expect(versions()).toEqual(["one", "two"]);
  await eventually("it knows the reason, too", () => reason.test(two.undelivered() ?? ""));
});

it("asks the engine for the host's size until it answers", async () => {
  const server = await startNats();
  open.push(server);
  const heard = await heardOn(server.url, "chorus.sandbox.v1.*.*._host.host.up");
  const link = openLink({ login: { servers: [server.url] }, name: "test", logger: recordingLogger().logger });
  open.push(link);
  const backend = new MemoryBackend();
  backend.host.unreachable(true);
  const policy = effectivePolicy({}, "test", 1);
  const hostUp = hostOffer({ backend, store: { liveSandboxes: () => [] }, policy, version: "1" });
  open.push(startLive({ link, host: "h1", tenant: "default", hostUp, speaks: () => true, everyMs: 50 }));
  const told = () => heard.at(-1)?.event.data["capacity"] as HostUp["capacity"] | undefined; // as hostOffer makes it
  await eventually("it is told without", () => heard.length > 1);
  expect(told()).toMatchObject({ cpus: 0, memory_bytes: 0 });

  backend.host.unreachable(false);

  await eventually("the size is told", () => (told()?.cpus ?? 0) > 0);
  expect(told()).toMatchObject({ cpus: 8, memory_bytes: 64 * 1024 ** 3, memory_limit_mb: 49_152 });
});
