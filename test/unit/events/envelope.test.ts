import { CloudEvent, HTTP } from "cloudevents";
import { expect, it } from "vitest";
import { maxEventBytes, type toCloudEvent, toMessage, toTransientMessage } from "../../../src/events/envelope.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";

const journal = new MemoryJournal();
const parse = (payload: Uint8Array): ReturnType<typeof toCloudEvent> => JSON.parse(Buffer.from(payload).toString());

it("wraps an entry with all attributes, and the CloudEvents SDK reads the same from the message", () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const entry = { ...journal.emit("sb_1", { host: "h.x", tenant: "t/1" }), traceparent };

  const { subject, headers, payload } = toMessage(entry);

  expect(subject).toBe("chorus.sandbox.v1.h-X2Ex.t-X2F1.sb_1.exec.started");
  expect(headers).toEqual({ "Nats-Msg-Id": entry.id, "content-type": "application/cloudevents+json", traceparent });
  const expected = {
    specversion: "1.0",
    id: entry.id,
    source: "//chorus/hosts/h.x",
    type: "dev.chorus.sandbox.exec.started.v1",
    subject: "sb_1",
    time: entry.time,
    datacontenttype: "application/json",
    dataschema: "urn:chorus:schema:sandbox:exec.started:v1",
    sequence: "00000000000000000001",
    partitionkey: "sb_1",
    traceparent,
    data: entry.data,
  };
  expect(parse(payload)).toEqual(expected);
  const read = HTTP.toEvent({ headers, body: Buffer.from(payload).toString() });
  expect(read).toBeInstanceOf(CloudEvent);
  expect(JSON.parse(JSON.stringify(read))).toEqual(expected);
  expect((read as CloudEvent<unknown>).validate()).toBe(true);
});

it("gives transient events an id and a time but no sequence", () => {
  const event = { type: "stats.sampled", host: "h", tenant: "t", sandbox_id: "sb_1", data: { cpu: 1 } } as const;
  const { subject, payload } = toTransientMessage(event, 0);
  expect(subject).toBe("chorus.sandbox.v1.h.t.sb_1.stats.sampled");
  expect(parse(payload)).toMatchObject({ time: "1970-01-01T00:00:00.000Z", partitionkey: "sb_1", data: { cpu: 1 } });
  expect(parse(payload)).not.toHaveProperty("sequence");
});

it.each([
  ["a text", { requested: "\u0001€😀".repeat(400_000) }, ["requested"]],
  [
    "a list",
    { changes: Array.from({ length: 200 }, () => ({ path: "€".repeat(4_000), op: "w", size_bytes: 1 })) },
    ["changes"],
  ],
  [
    "an object",
    { labels: Object.fromEntries(Array.from({ length: 9_000 }, (_, n) => [`k${n}`, "v".repeat(100)])) },
    ["labels"],
  ],
  ["two fields", { requested: "a".repeat(900_000), allowed: ["b".repeat(800_000)] }, ["requested", "allowed"]],
])("cuts %s to fit and names what it cut", (_, data, truncated) => {
  const { payload } = toMessage(journal.emit("sb_1", { type: "policy.denied", data }));
  expect(payload.length).toBeLessThanOrEqual(maxEventBytes);
  expect(parse(payload).data).toMatchObject({ sandbox_id: "sb_1", truncated, what: "image" });
  if (truncated.length === 1) expect(payload.length).toBeGreaterThan(maxEventBytes * 0.5);
});
