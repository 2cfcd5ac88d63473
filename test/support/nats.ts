import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Writable } from "node:stream";
import { AckPolicy, connect, DeliverPolicy, type NatsConnection } from "nats";
import { pino } from "pino";
import { startNats } from "../../scripts/lib/nats.mjs";
import { type NatsLink, openLink } from "../../src/events/connection.ts";
import type { CloudEvent } from "../../src/events/envelope.ts";
import type { NatsLogin } from "../../src/events/login.ts";
import { type Relay, type RelayOptions, startRelay } from "../../src/events/relay.ts";
import { streamName } from "../../src/events/stream.ts";
import type { Logger } from "../../src/logger.ts";
import type { Journal } from "../../src/sandbox/store/types.ts";
import { eventually } from "./eventually.ts";

export type NatsServer = Awaited<ReturnType<typeof startNats>>;

/** SIGKILL, and gone: its port and store are free again. */
export async function crash(server: NatsServer): Promise<void> {
  process.kill(server.pid, "SIGKILL");
  await eventually("nats-server is gone", () => {
    try {
      process.kill(server.pid, 0);
      return false;
    } catch {
      return true;
    }
  });
}

/** The same server again: port, store and whatever configuration. */
export const again = (server: NatsServer, options: Parameters<typeof startNats>[0] = {}): Promise<NatsServer> =>
  startNats({ port: server.port, storeDir: server.storeDir, ...options });

/** The configuration that docs/events.md recommends, as it stands there. */
export function documentedPermissions(): string {
  const text = readFileSync(new URL("../../docs/events.md", import.meta.url), "utf8");
  const config = /```conf\n([\s\S]*?)```/.exec(text)?.[1];
  if (config === undefined) throw new Error("docs/events.md has no configuration");
  return config.replaceAll("<host>", "h1").replaceAll("<tenant>", "acme").replaceAll("<secret>", "s");
}

export interface Line {
  level: string;
  msg: string;
  [field: string]: unknown;
}

/** A logger that keeps what it is told. */
export function recordingLogger(): { logger: Logger; lines: Line[]; said: (words: RegExp) => Line[] } {
  const lines: Line[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)) as Line); // pino writes one JSON object per call
      done();
    },
  });
  const logger = pino({ base: null, formatters: { level: (label) => ({ level: label }) } }, sink);
  return { logger, lines, said: (words) => lines.filter(({ msg }) => words.test(msg)) };
}

export interface Relaying extends AsyncDisposable {
  relay: Relay;
  link: NatsLink;
  log: ReturnType<typeof recordingLogger>;
}

/** Link and relay as `startPublisher` wires them. */
export function relaying(login: string | NatsLogin, journal: Journal, options: Partial<RelayOptions> = {}): Relaying {
  const log = recordingLogger();
  const link = openLink({
    login: typeof login === "string" ? { servers: [login] } : login,
    name: `test ${randomBytes(4).toString("hex")}`,
    logger: log.logger,
  });
  const relay = startRelay({ journal, target: "t", link, flushed: async () => {}, logger: log.logger, ...options });
  return {
    relay,
    link,
    log,
    async [Symbol.asyncDispose]() {
      await relay[Symbol.asyncDispose]();
      await link[Symbol.asyncDispose]();
    },
  };
}

export interface Received {
  id: string;
  sandbox: string;
  sequence: number;
  subject: string;
  headers: Record<string, string>;
  event: CloudEvent;
}

/** The independent client: an older library by another road, as a component of CHORUS may use it. */
export async function consumer(url: string, options: Parameters<typeof connect>[0] = {}): Promise<NatsConnection> {
  return connect({
    servers: url,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    waitOnFirstConnect: true,
    ...options,
  });
}

/** Everything the stream holds, in its order. */
export async function stored(nc: NatsConnection): Promise<Received[]> {
  const manager = await nc.jetstreamManager();
  const { messages } = (await manager.streams.info(streamName)).state;
  const received: Received[] = [];
  if (messages === 0) return received;
  const { name } = await manager.consumers.add(streamName, {
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.All,
    inactive_threshold: 30e9,
    mem_storage: true,
  });
  const from = await nc.jetstream().consumers.get(streamName, name);
  while (received.length < messages) {
    for await (const message of await from.fetch({
      max_messages: Math.min(1_000, messages - received.length),
      expires: 1_000,
    })) {
      received.push(read(message));
    }
  }
  return received;
}

export function read(message: {
  subject: string;
  data: Uint8Array;
  headers?: { keys(): string[]; get(key: string): string } | undefined;
}): Received {
  const event = JSON.parse(Buffer.from(message.data).toString()) as CloudEvent; // the schemas' tests prove its shape
  const { headers } = message;
  return {
    id: event.id,
    sandbox: event.subject,
    sequence: Number(event.sequence),
    subject: message.subject,
    headers: Object.fromEntries((headers?.keys() ?? []).map((key) => [key, headers?.get(key) ?? ""])),
    event,
  };
}

/** What is wrong with what arrived, given what was told: lost, doubled or out of order. Empty when all is well. */
export function faults(received: readonly Received[], told: ReadonlyMap<string, number>): string[] {
  const found: string[] = [];
  const last = new Map<string, number>();
  const ids = new Set<string>();
  for (const { id, sandbox, sequence } of received) {
    if (ids.has(id)) found.push(`doubled ${sandbox} ${sequence}`);
    else if (sequence !== (last.get(sandbox) ?? 0) + 1)
      found.push(`${sandbox}: ${sequence} after ${last.get(sandbox)}`);
    ids.add(id);
    last.set(sandbox, Math.max(sequence, last.get(sandbox) ?? 0));
  }
  for (const [sandbox, count] of told) {
    if (last.get(sandbox) !== count) found.push(`${sandbox}: ${last.get(sandbox) ?? 0} of ${count}`);
  }
  return found.slice(0, 10);
}
