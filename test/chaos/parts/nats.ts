import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { DiscardPolicy, type NatsConnection } from "nats";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { streamName, wantedStream } from "../../../src/events/stream.ts";
import { eventually } from "../../support/eventually.ts";
import { again, consumer, crash, type NatsServer, type Received, stored } from "../../support/nats.ts";

/** Short, so that a process that is stopped for a while is really past it. */
const duplicateWindowMs = 2_000;

/** A nats-server with JetStream that gets hurt in all the ways one can. */
export interface DoomedNats extends AsyncDisposable {
  /** What a server needs to know to publish. */
  env: Record<string, string>;
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** Stops it without a word, and lets it go on. */
  hang(): void;
  wake(): void;
  /** Takes the publisher's login, or its right to publish, away while the server runs, and gives it back. */
  revoke(what: "login" | "rights"): void;
  restore(): void;
  /** Lets the stream refuse what is new, as a full one does, and take it again. */
  fill(): Promise<unknown>;
  drain(): Promise<unknown>;
  /** Everything in the stream, in its order. */
  received(): Promise<Received[]>;
}

export async function doomedNats(): Promise<DoomedNats> {
  const folder = mkdtempSync(path.join(tmpdir(), "chorus-chaos-nats-"));
  const users = path.join(folder, "users.conf");
  const host = (publish: string) =>
    `, { user: "host", password: "h", permissions: { publish: ${publish}, subscribe: ">" } }`;
  const grant = (others: string) => writeFileSync(users, `users = [ { user: "operator", password: "o" } ${others} ]`);
  grant(host('">"'));
  // Included files are named from where the server's own configuration lies, which is beside this folder.
  const config = `authorization { include "../${path.basename(folder)}/users.conf" }`;
  let server: NatsServer = await startNats({ config });
  const operator = await consumer(server.url, { user: "operator", pass: "o", timeout: 5_000 });
  const streams = async (nc: NatsConnection) => (await nc.jetstreamManager({ timeout: 5_000 })).streams;
  const { max_msgs: _, ...wanted } = wantedStream(256 * 2 ** 20);
  const shape = { ...wanted, duplicate_window: duplicateWindowMs * 1e6 };
  // The names are the server's own; the 2.x client has enums for them.
  await (await streams(operator)).add(shape as never);
  const reload = () => void process.kill(server.pid, "SIGHUP");
  // The server may have come back a moment ago, and the operator not yet.
  const reshape = (change: (api: Awaited<ReturnType<typeof streams>>) => Promise<unknown>) =>
    eventually("the stream is changed", () =>
      streams(operator)
        .then(change)
        .then(
          () => true,
          () => false,
        ),
    );
  return {
    env: { NATS_URL: server.url, NATS_USER: "host", NATS_PASSWORD: "h" },
    kill: () => crash(server),
    async restart() {
      server = await again(server, { config });
    },
    hang: () => void process.kill(server.pid, "SIGSTOP"),
    wake: () => void process.kill(server.pid, "SIGCONT"),
    revoke(what) {
      grant(what === "login" ? "" : host('{ deny: "chorus.>" }'));
      reload();
    },
    restore() {
      grant(host('">"'));
      reload();
    },
    async fill() {
      // A limit below what is there would drop the oldest: nothing may come while it is set.
      grant(host('{ deny: "chorus.>" }'));
      reload();
      let seen = -1;
      await reshape(async (api) => {
        const { messages } = (await api.info(streamName)).state;
        if (messages !== seen) {
          seen = messages;
          await delay(100);
          throw new Error("something is on its way still");
        }
        const full = { ...shape, discard: DiscardPolicy.New, max_msgs: Math.max(1, messages) };
        await api.update(streamName, full as never);
      });
      grant(host('">"'));
      reload();
    },
    drain: () => reshape((api) => api.update(streamName, { ...shape, max_msgs: -1 } as never)),
    async received() {
      const nc = await consumer(server.url, { user: "operator", pass: "o" });
      return stored(nc).finally(() => nc.close());
    },
    async [Symbol.asyncDispose]() {
      await operator.close();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
