import { readdirSync, readFileSync } from "node:fs";
import { jetstream } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { openLink } from "../../../src/events/connection.ts";
import { Delivery } from "../../../src/events/delivery.ts";
import { streamName } from "../../../src/events/stream.ts";
import { eventually } from "../../support/eventually.ts";
import { consumer, faults, recordingLogger, relaying, stored } from "../../support/nats.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";
import { storeWithSandboxes } from "../../support/nats-store.ts";
import { turnBack } from "../../support/store.ts";

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function setUp(config = "") {
  const server = await startNats({ config });
  open.push(server.stop);
  return server;
}

const manager = async (url: string, user?: string) => {
  const nc = await consumer(url, user === undefined ? {} : { user, pass: user });
  open.push(() => nc.close());
  return { nc, streams: (await nc.jetstreamManager()).streams };
};

it.each(["the role goes to another", "the tenure ends"])(
  "sends nothing once %s while it looks at the stream",
  async (how) => {
    const server = await setUp();
    const { streams } = await manager(server.url);
    await streams.add({ name: streamName, subjects: ["chorus.sandbox.v1.>"] });
    const link = openLink({ login: { servers: [server.url] }, name: "test", logger: recordingLogger().logger });
    open.push(() => link[Symbol.asyncDispose]());
    const session = await link.up(new AbortController().signal);
    if (session === undefined) throw new Error("no session");
    const journal = new MemoryJournal();
    for (const sandbox of ["sb_1", "sb_2"]) journal.emit(sandbox);
    // For all that is known a relay before this one has sent both.
    await journal.setRelayCursor("t", 0, 2);
    const end = new AbortController();
    let mine = true;
    const delivery = new Delivery({
      client: jetstream(session.nc),
      makeHeaders: () => headers(),
      journal,
      target: "t",
      session,
      flushed: async () => {},
      mayPublish: () => mine,
      onBlocked: () => {},
      onNoStream: () => {},
    });

    process.kill(server.pid, "SIGSTOP");
    await eventually("every thread of the server stands still", () =>
      readdirSync(`/proc/${server.pid}/task`).every((thread) =>
        /\) T /.test(readFileSync(`/proc/${server.pid}/task/${thread}/stat`, "utf8")),
      ),
    );
    const running = delivery.run(end.signal);
    await eventually("it asks for both", () => delivery.inFlight === 2);
    if (how === "the tenure ends") end.abort();
    else mine = false;
    process.kill(server.pid, "SIGCONT");

    await eventually("it has its answers", () => delivery.inFlight === 0);
    end.abort();
    await running;
    expect(delivery.counts).toEqual({ published: 0, duplicates: 0, failures: 0 });
    expect(delivery.blocked()).toEqual([]);
    expect((await streams.info(streamName)).state.messages).toBe(0);
    expect(journal.relayCursor("t").cursor).toBe(0);
  },
);

it("takes no other stream's word for it, and says which one it is waiting for", async () => {
  const server = await setUp(`authorization { users = [
    { user: "admin", password: "admin" }
    { user: "host", password: "host", permissions: { publish: ["chorus.>", "$JS.API.STREAM.MSG.GET.*"], subscribe: "_INBOX.>" } }
  ] }`);
  const { nc, streams } = await manager(server.url, "admin");
  await streams.add({ name: "OTHER", subjects: ["chorus.sandbox.v1.>"] });
  const journal = new MemoryJournal();
  const known = journal.emit("sb_1");
  journal.emit("sb_2");
  // An older relay's, which did not look whose word it was.
  await nc.jetstream().publish("chorus.sandbox.v1.h1.default.sb_1.exec.started", "{}", { msgID: known.id });
  const started = relaying({ servers: [server.url], user: "host", password: "host" }, journal);
  open.push(() => started[Symbol.asyncDispose]());
  const { relay, log } = started;

  await eventually("both are refused", () => relay.status().blocked.length === 2);
  for (const { error } of relay.status().blocked)
    expect(error).toContain(`another stream than ${streamName} takes its subject`);
  expect(log.said(/not taken by NATS: .*another stream than/)).toHaveLength(1);
  expect(relay.status()).toMatchObject({ published: 0, duplicates: 0, cursor: 0 });
  expect((await streams.info("OTHER")).state.messages).toBe(1);

  await streams.delete("OTHER");
  await streams.add({ name: streamName, subjects: ["chorus.sandbox.v1.>"] });
  await eventually("all is relayed", () => relay.status().behind === 0);
  expect(faults(await stored(nc), journal.told)).toEqual([]);
});

it("relays what another process that opens the store hides for a moment", async () => {
  const server = await setUp();
  const { nc } = await manager(server.url);
  const { store, dataDir, ids, told, emit, ...held } = await storeWithSandboxes(1);
  open.push(() => held[Symbol.asyncDispose]());
  const [id = ""] = ids;
  let opens = false;
  const flushed = async () => {
    if (opens) turnBack(dataDir);
    await store.flushed();
    if (opens) await eventually("the newest is hidden", () => store.journal.newest() === 1);
    opens = false;
  };
  const started = relaying(server.url, store.journal, { flushed });
  open.push(() => started[Symbol.asyncDispose]());
  const { relay } = started;
  await emit(id);
  await eventually("the first is acknowledged for good", () => store.journal.relayCursor("t").cursor === 1);

  opens = true;
  await emit(id);
  await eventually("it looked while the newest was hidden", () => !opens);
  // As the first transaction of the other process.
  await store.write(() => {});
  await eventually("all is relayed", () => store.journal.newest() === 2 && relay.status().behind === 0);
  expect(faults(await stored(nc), told)).toEqual([]);
});
