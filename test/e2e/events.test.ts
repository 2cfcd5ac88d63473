import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNats } from "../../scripts/lib/nats.mjs";
import { again, consumer, crash, type NatsServer, stored } from "../support/nats.ts";
import { eventually, startServer } from "../support/server.ts";

/** What an independent consumer of the stream has, next to what the server's journal says. */
describe("events on NATS", () => {
  let nats: NatsServer;
  beforeAll(async () => {
    nats = await startNats();
  });
  afterAll(async () => {
    await nats?.stop();
  });

  it("tell the whole life of a sandbox, in order, to a 2.x consumer", async () => {
    await using server = await startServer({
      env: { NATS_URL: nats.url, CHORUS_SANDBOX_HOST: "host one", CHORUS_SANDBOX_TENANT: "team.a" },
    });
    const nc = await consumer(nats.url);
    const samples: string[] = [];
    nc.subscribe("chorus.sandbox.v1.*.*.*.stats.sampled", {
      callback: (_, message) => void samples.push(message.subject),
    });
    const id = String((await server.ok("sandbox_create", { labels: { job: "42" } }))["sandbox_id"]);
    const exec = await server.ok("exec_run", { sandbox_id: id, command: "exit 4" });
    await server.ok("file_write", { sandbox_id: id, files: [{ path: "a", content: "1" }] });
    // One cadence of the sampler.
    await eventually("a sample arrives on core NATS", () => samples.length > 0, 30_000);
    expect(samples[0]).toBe(`chorus.sandbox.v1.host-X20one.team-X2Ea.${id}.stats.sampled`);
    await server.ok("sandbox_destroy", { sandbox_id: id });

    const journal = (
      await server.ok("sandbox_events", { sandbox_id: id, after: "start", limit: 200, format: "cloudevents" })
    )["events"];
    const received = await eventually("all are in the stream", async () => {
      const mine = (await stored(nc)).filter((event) => event.sandbox === id);
      return mine.length === (journal as unknown[]).length && mine;
    });
    expect(received.map(({ event }) => event)).toEqual(journal);
    expect(received.map(({ sequence }) => sequence)).toEqual(received.map((_, i) => i + 1));
    for (const { event, headers, subject } of received) {
      expect(event).toMatchObject({
        specversion: "1.0",
        source: "//chorus/hosts/host%20one",
        subject: id,
        partitionkey: id,
      });
      expect(headers["Nats-Msg-Id"]).toBe(event.id);
      expect(headers["content-type"]).toBe("application/cloudevents+json");
      expect(subject).toMatch(new RegExp(`^chorus\\.sandbox\\.v1\\.host-X20one\\.team-X2Ea\\.${id}\\.`));
      expect(event.data).toMatchObject({ sandbox_id: id, tenant: "team.a", labels: { job: "42" } });
    }
    const completed = received.find(({ event }) => event.type === "dev.chorus.sandbox.exec.completed.v1");
    const started = received.find(({ event }) => event.type === "dev.chorus.sandbox.exec.started.v1");
    expect(completed?.event.data).toMatchObject({
      exec_id: exec["exec_id"],
      exit_code: 4,
      cause: started?.event.id,
      actor: { kind: "guest" },
    });
    expect(started?.event.data).toMatchObject({ actor: { kind: "agent", client: "chorus-tests/1.0.0" } });
    await nc.close();
  });

  it("wait in the journal while NATS is dead and arrive afterwards, none lost or doubled; tools never notice", async () => {
    await using server = await startServer({ env: { NATS_URL: nats.url } });
    const id = String((await server.ok("sandbox_create"))["sandbox_id"]);
    await server.ok("exec_run", { sandbox_id: id, command: "echo before" });
    await crash(nats);
    for (let i = 0; i < 10; i++) await server.ok("exec_run", { sandbox_id: id, command: `echo ${i}` });
    await server.ok("sandbox_destroy", { sandbox_id: id });
    nats = await again(nats);

    const nc = await consumer(nats.url);
    const count = (
      (await server.ok("sandbox_events", { sandbox_id: id, after: "start", limit: 200 }))["events"] as unknown[]
    ).length;
    const received = await eventually(
      "all are in the stream",
      async () => {
        const mine = (await stored(nc).catch(() => [])).filter((event) => event.sandbox === id);
        return mine.length >= count && mine;
      },
      40_000,
    );
    expect(received.map(({ sequence }) => sequence)).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    await nc.close();
  });

  it("of a server killed before it relayed are relayed by the next", async () => {
    await crash(nats);
    const first = await startServer({ env: { NATS_URL: nats.url } });
    const id = String((await first.ok("sandbox_create"))["sandbox_id"]);
    await first.ok("exec_run", { sandbox_id: id, command: "true" });
    await first.kill();
    nats = await again(nats);

    await using second = await startServer({ dataDir: first.dataDir, env: { NATS_URL: nats.url } });
    await second.ok("sandbox_destroy", { sandbox_id: id });
    const nc = await consumer(nats.url);
    const received = await eventually(
      "the end is in the stream",
      async () => {
        const mine = (await stored(nc).catch(() => [])).filter((event) => event.sandbox === id);
        return mine.at(-1)?.event.type === "dev.chorus.sandbox.lifecycle.destroyed.v1" && mine;
      },
      40_000,
    );
    expect(received.map(({ sequence }) => sequence)).toEqual(received.map((_, i) => i + 1));
    await nc.close();
    await first[Symbol.asyncDispose]();
  });
});
