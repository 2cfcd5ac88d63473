import type { Logger } from "../logger.ts";
import type { SandboxBackend } from "./backend.ts";
import type { Connections } from "./connections.ts";
import type { JournalEntry } from "./events.ts";
import type { HostDir } from "./host-dirs.ts";
import type { Policy } from "./policy.ts";
import type { Store } from "./store/types.ts";

/** What a sandbox has used so far. */
export interface Used {
  cpu_ms: number | null;
  peak_memory_bytes: number | null;
}

/** What every use case works with. Built once by the composition root. */
export interface Core {
  readonly store: Store;
  readonly backend: SandboxBackend;
  readonly connections: Connections;
  readonly policy: Policy;
  readonly defaultImage: string;
  /** Folders of the host that are open to uploads and downloads. */
  readonly hostDirs: readonly HostDir[];
  readonly tenant: string;
  /** Warm sandboxes to keep ready. */
  readonly pool: number;
  readonly logger: Logger;
  /** Ends being settled by this process, by sandbox: several signs of one death share the work. */
  readonly settling: Map<string, Promise<void>>;
  /** By sandbox, as of the newest sample this process took. */
  readonly lastUsed: Map<string, Used>;
  /** The newest change of each sandbox that this process is making; whoever comes next waits for it. Never rejects. */
  readonly updating: Map<string, Promise<void>>;
  /** What others who follow the events do not have yet though they should, in words for an agent. */
  readonly undelivered?: () => string | undefined;
  /** Renders a journal entry as NATS consumers see it; given from outside, since the core knows no CloudEvents. */
  readonly toCloudEvent: (entry: JournalEntry) => Record<string, unknown>;
}

export const workdir = "/workspace";
