import type { JetStreamClient } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { expect, it } from "vitest";
import { publish } from "../../../src/events/publish.ts";

const item = {
  message: { id: "id", subject: "chorus.sandbox.v1.h.t.s.exec.started", headers: {}, payload: new Uint8Array() },
  headers: headers(),
};
// Only a cluster answers so, of servers newer than the one the other tests run.
const answering = (ack: { seq: number; duplicate: boolean }) =>
  ({ publish: async () => ({ stream: "s", domain: "", ...ack }) }) as unknown as JetStreamClient;

it("takes a known id for a repeat only where the stream has the message", async () => {
  expect(await publish(answering({ seq: 7, duplicate: true }), item, 0)).toEqual({ outcome: "duplicates", message: 7 });
  await expect(publish(answering({ seq: 0, duplicate: true }), item, 0)).rejects.toThrow("has not stored it");
});
