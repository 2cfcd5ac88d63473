import { readFileSync } from "node:fs";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { streamName } from "../../../src/events/stream.ts";
import { read, relaying, until } from "../../support/nats.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";

/** The configuration that docs/events.md recommends, as it stands there. */
function documented(): string {
  const text = readFileSync(new URL("../../../docs/events.md", import.meta.url), "utf8");
  const config = /```conf\n([\s\S]*?)```/.exec(text)?.[1];
  if (config === undefined) throw new Error("docs/events.md has no configuration");
  return config.replaceAll("<host>", "h1").replaceAll("<tenant>", "acme").replaceAll("<secret>", "s");
}

it("the documented permissions let a host publish, and a tenant consume its own events only", async () => {
  await using server = await startNats({ config: documented() });
  const journal = new MemoryJournal();
  const login = { servers: [server.url], user: "sandbox-host", password: "s" };
  await using host = relaying(login, journal);
  journal.emit("sb_1", { tenant: "acme" });
  journal.emit("sb_2", { tenant: "other" });
  journal.emit("sb_3", { tenant: "acme", host: "elsewhere" });
  await until("its own are relayed", () => host.relay.status().published === 2);
  await until("another host's is refused", () => host.relay.status().blocked.length === 1);
  expect(host.log.said(/may not|differs/)).toEqual([]);

  const nc = await connect({ servers: server.url, user: "acme", pass: "s" });
  const manager = await jetstreamManager(nc, { checkAPI: false, timeout: 1_000 });
  const durable = (filter_subject: string, name = "acme-exec") =>
    manager.consumers.add(streamName, { name, durable_name: name, filter_subject, ack_policy: AckPolicy.Explicit });
  await expect(durable("chorus.sandbox.v1.*.other.*.exec.*")).rejects.toThrow(/Permissions Violation/);
  await expect(durable("chorus.sandbox.v1.*.*.*.exec.*")).rejects.toThrow(/Permissions Violation/);
  await expect(durable("chorus.sandbox.v1.*.acme.*.exec.*", "other-exec")).rejects.toThrow(/Permissions Violation/);
  await expect(manager.streams.getMessage(streamName, { seq: 2 })).rejects.toThrow(/Permissions Violation/);
  await durable("chorus.sandbox.v1.*.acme.*.exec.*");
  const consumer = await jetstream(nc).consumers.get(streamName, "acme-exec");
  const message = await consumer.next({ expires: 5_000 });
  expect(message && read(message).event).toMatchObject({ subject: "sb_1", data: { tenant: "acme" } });
  await message?.ackAck();
  await nc.close();
}, 30_000);
