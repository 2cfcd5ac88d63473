import type { Actor, HostUp, SandboxState, StatsData } from "../sandbox/events.ts";
import { pause } from "../sandbox/wait.ts";
import type { NatsLink, NatsSession } from "./connection.ts";
import { type TransientEvent, toTransientMessage } from "./envelope.ts";
import { hostSandbox } from "./subject.ts";

export interface LiveOptions {
  link: NatsLink;
  host: string;
  /** Tenant of the facts about the host. */
  tenant: string;
  /** What the host offers, asked when it is told. */
  hostUp: () => HostUp;
  /** Whether this process speaks for the host: one of an install does. */
  speaks: () => boolean;
  /** @default 30000 */
  everyMs?: number;
}

/** Facts that are worth something now or never: on core NATS while connected, dropped otherwise. */
export interface Live extends AsyncDisposable {
  /** True when it is sent, a moment later, unless the connection ends first. */
  stats(
    of: { sandbox_id: string; tenant: string; labels: Record<string, string>; state: SandboxState },
    data: StatsData,
  ): boolean;
}

const actor: Actor = { kind: "system" };
/** Samples are taken many at a time; those that answer within this share a write to the server. */
const gatherMs = 20;

export function startLive(options: LiveOptions): Live {
  const { link, host, tenant, hostUp, speaks, everyMs = 30_000 } = options;
  const stop = new AbortController();

  const tellHost = (session: NatsSession) =>
    send(session, [
      {
        type: "host.up",
        host,
        tenant,
        sandbox_id: hostSandbox,
        data: { sandbox_id: hostSandbox, host, tenant, labels: {}, actor, state: "running", ...hostUp() },
      },
    ]);

  let gathered: TransientEvent[] = [];
  const sendGathered = (): void => {
    const events = gathered;
    gathered = [];
    const session = link.current();
    if (session !== undefined) void send(session, events);
  };

  const done = (async () => {
    while (!stop.signal.aborted) {
      const session = await link.up(stop.signal);
      if (session === undefined) return;
      // Made once a session: what AbortSignal.any made is only freed with the signals that it was made of.
      const over = AbortSignal.any([stop.signal, session.down]);
      while (!over.aborted) await pause(speaks() && (await tellHost(session)) ? everyMs : 1_000, over);
    }
  })();

  return {
    stats({ sandbox_id, labels, state, ...of }, data) {
      if (link.current() === undefined || stop.signal.aborted) return false;
      const { tenant } = of;
      const common = { sandbox_id, host, tenant, labels, actor, state };
      gathered.push({ type: "stats.sampled", host, tenant, sandbox_id, data: { ...common, ...data } });
      if (gathered.length === 1) setTimeout(sendGathered, gatherMs).unref();
      return true;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}

/** False when the connection ended first. An event that the server's limits refuse is dropped alone. */
async function send({ nc, down }: NatsSession, events: readonly TransientEvent[]): Promise<boolean> {
  const { headers, InvalidArgumentError } = await import("@nats-io/transport-node");
  for (const event of events) {
    const { subject, payload, headers: fields } = toTransientMessage(event);
    const known = headers();
    for (const [name, value] of Object.entries(fields)) known.set(name, value);
    if (down.aborted || nc.isClosed() || nc.isDraining()) return false;
    try {
      nc.publish(subject, payload, { headers: known });
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
    }
  }
  return true;
}
