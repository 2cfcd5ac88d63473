import type { Logger } from "../logger.ts";
import type { Store } from "../sandbox/store/types.ts";
import { type LinkStatus, openLink } from "./connection.ts";
import { type HostUp, type Live, startLive } from "./live.ts";
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
  status(): { link: LinkStatus; relay: RelayStatus };
}

export function startPublisher({ login, store, host, tenant, hostUp, logger }: PublisherOptions): Publisher {
  const link = openLink({ login, name: `chorus-sandbox ${host} ${store.processId}`, logger });
  const relay = startRelay({
    journal: store.journal,
    roles: store.roles,
    flushed: () => store.flushed(),
    target: relayTarget(login),
    link,
    logger,
  });
  const live = startLive({ link, host, tenant, hostUp, speaks: () => relay.status().state === "relaying" });
  let disposed: Promise<void> | undefined;
  const dispose = async () => {
    await live[Symbol.asyncDispose]();
    await relay[Symbol.asyncDispose]();
    await link[Symbol.asyncDispose]();
  };
  return {
    live,
    status: () => ({ link: link.status(), relay: relay.status() }),
    [Symbol.asyncDispose]() {
      disposed ??= dispose();
      return disposed;
    },
  };
}
