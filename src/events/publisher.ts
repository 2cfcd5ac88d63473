import type { Logger } from "../logger.ts";
import type { HostUp } from "../sandbox/events.ts";
import { madeAt } from "../sandbox/ids.ts";
import type { Store } from "../sandbox/store/types.ts";
import { type LinkStatus, openLink } from "./connection.ts";
import { type Live, startLive } from "./live.ts";
import { type NatsLogin, relayTarget } from "./login.ts";
import { type RelayStatus, startRelay } from "./relay.ts";

export interface PublisherOptions {
  login: NatsLogin;
  store: Pick<Store, "journal" | "roles" | "flushed" | "processId">;
  host: string;
  tenant: string;
  hostUp: () => HostUp;
  logger: Logger;
}

/** Everything this process does with NATS; starting it waits for nothing and touches the network in the background. */
export interface Publisher extends AsyncDisposable {
  readonly live: Pick<Live, "stats">;
  /** What NATS should have by now and has not, whichever process relays; undefined when there is nothing to tell. */
  undelivered(): string | undefined;
  status(): { link: LinkStatus; relay: RelayStatus };
}

/** Younger events are on their way. */
const lateMs = 10_000;

export function startPublisher({ login, store, host, tenant, hostUp, logger }: PublisherOptions): Publisher {
  const target = relayTarget(login);
  const link = openLink({ login, name: `chorus-sandbox ${host} ${store.processId}`, logger });
  const relay = startRelay({
    journal: store.journal,
    roles: store.roles,
    flushed: () => store.flushed(),
    target,
    link,
    logger,
  });
  // The one to relay speaks for the host, also while there is no stream to relay to.
  const speaks = () => ["no_stream", "relaying"].includes(relay.status().state);
  const live = startLive({ link, host, tenant, hostUp, speaks });
  const reason = () => {
    const { connected, error } = link.status();
    if (!connected) return error ?? "this server is not connected to NATS";
    const { blocked, error: noStream } = relay.status();
    return error ?? noStream ?? blocked[0]?.error ?? "the server that relays logs the reason";
  };
  const undelivered = () => {
    const { cursor } = store.journal.relayCursor(target);
    const [next] = store.journal.after(cursor, { limit: 1 });
    if (next === undefined || Date.now() - madeAt(next.id) < lateMs) return undefined;
    return `NATS has not taken the events after ${cursor} yet (${reason()}); here they are whole, and they go there later.`;
  };
  let disposed: Promise<void> | undefined;
  const dispose = async () => {
    await live[Symbol.asyncDispose]();
    await relay[Symbol.asyncDispose]();
    await link[Symbol.asyncDispose]();
  };
  return {
    live,
    undelivered,
    status: () => ({ link: link.status(), relay: relay.status() }),
    [Symbol.asyncDispose]() {
      disposed ??= dispose();
      return disposed;
    },
  };
}
