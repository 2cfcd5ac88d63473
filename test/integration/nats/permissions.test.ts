import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { startPublisher } from "../../../src/events/publisher.ts";
import { streamName } from "../../../src/events/stream.ts";
import { uuidv7 } from "../../../src/sandbox/ids.ts";
import { eventually } from "../../support/eventually.ts";
import { again, crash, documentedPermissions, read, recordingLogger, relaying } from "../../support/nats.ts";
import { MemoryJournal, MemoryRoles } from "../../support/nats-journal.ts";

it("the documented permissions let a host publish, and a tenant consume its own events only", async () => {
  await using server = await startNats({ config: documentedPermissions() });
  const journal = new MemoryJournal();
  const login = { servers: [server.url], user: "sandbox-host", password: "s" };
  await using host = relaying(login, journal);
  journal.emit("sb_1", { tenant: "acme" });
  journal.emit("sb_2", { tenant: "other" });
  journal.emit("sb_3", { tenant: "acme", host: "elsewhere" });
  await eventually("its own are relayed", () => host.relay.status().published === 2);
  await eventually("another host's is refused", () => host.relay.status().blocked.length === 1);
  expect(host.log.said(/may not|differs/)).toEqual([]);

  const nc = await connect({ servers: server.url, user: "acme", pass: "s" });
  const manager = await jetstreamManager(nc, { checkAPI: false, timeout: 10_000 });
  const durable = (filter_subject: string, name = "acme-exec") =>
    manager.consumers.add(streamName, { name, durable_name: name, filter_subject, ack_policy: AckPolicy.Explicit });
  await expect(durable("chorus.sandbox.v1.*.other.*.exec.*")).rejects.toThrow(/Permissions Violation/);
  await expect(durable("chorus.sandbox.v1.*.*.*.exec.*")).rejects.toThrow(/Permissions Violation/);
  await expect(durable("chorus.sandbox.v1.*.acme.*.exec.*", "other-exec")).rejects.toThrow(/Permissions Violation/);
  await expect(manager.streams.getMessage(streamName, { seq: 2 })).rejects.toThrow(/Permissions Violation/);
  await durable("chorus.sandbox.v1.*.acme.*.exec.*");
  const consumer = await jetstream(nc).consumers.get(streamName, "acme-exec");
  const message = await consumer.next({ expires: 20_000 });
  expect(message && read(message).event).toMatchObject({ subject: "sb_1", data: { tenant: "acme" } });
  await message?.ackAck();
  await nc.close();
});

it("what a revoked login or right keeps from NATS is told, by every process, until it is there", async () => {
  const users = (publish: string) =>
    `authorization { users = [ { user: "h", password: "h", permissions: { publish: ${publish}, subscribe: ">" } } ] }`;
  let server = await startNats({ config: users('{ deny: "chorus.>" }') });
  const journal = new MemoryJournal();
  const roles = new MemoryRoles();
  const publisher = (name: string) =>
    startPublisher({
      login: { servers: [server.url], user: "h", password: "h" },
      store: { journal, roles: roles.of(name), flushed: async () => {}, processId: name },
      host: "h1",
      tenant: "default",
      hostUp: () => ({ version: "1", capacity: {} as never }),
      logger: recordingLogger().logger,
    });
  await using one = publisher("one");
  await eventually("the first relays", () => one.status().relay.state === "relaying");
  await using two = publisher("two");
  journal.emit("sb_1");
  await eventually("it is refused", () => one.status().relay.blocked.length === 1);
  // Of a moment ago: on its way, for all that is known.
  expect(one.undelivered()).toBeUndefined();
  journal.emit("sb_0", { ageMs: 60_000 });
  const old = journal.after(0, { limit: 1 })[0];
  Object.assign(old ?? {}, { id: uuidv7(Date.now() - 60_000) });
  expect(one.undelivered()).toMatch(/not taken the events after 0 yet .*Permissions Violation/);
  expect(two.undelivered()).toMatch(/not taken the events after 0 yet .*the server that relays logs/);

  await crash(server);
  await eventually("its absence is told", () => one.undelivered()?.includes("(this server is not connected to NATS)"));
  server = await again(server, { config: `authorization { user: "other", password: "other" }` });
  await eventually("the login is refused", () => /authoriz/i.test(two.undelivered() ?? ""));
  await crash(server);
  server = await again(server, { config: users('">"') });
  await eventually("nothing is missing", () => one.undelivered() === undefined && two.undelivered() === undefined);
  await server.stop();
});
