import path from "node:path";
import type { Logger } from "../../logger.ts";
import { prepareDataDir } from "./data-dir.ts";
import { Database } from "./database.ts";
import { LmdbStore } from "./store.ts";
import { openTables } from "./tables.ts";
import type { Store } from "./types.ts";

export interface StoreOptions {
  /** 0700, own uid, local file system; made when absent. */
  dataDir: string;
  /** Name of this host in events; may be built from the install id. */
  host: string | ((installId: string) => string);
  /** Tenant of facts about the host itself. @default "default" */
  tenant?: string;
  logger?: Logger;
  /** Bound of the journal in serialised bytes. @default 256 MiB */
  journalMaxBytes?: number;
  /** How long ended sandboxes and journal entries stay. @default 7 */
  endedDays?: number;
  /** Ended execs that stay known of each sandbox. @default 2000 */
  keptExecs?: number;
  /** How long a write waits for another process that holds the lock. @default 20000 */
  lockWaitMs?: number;
  /** Wall clock in milliseconds. @default Date.now */
  clock?: () => number;
}

/** Opens the store of a data dir, laying it out when it is new. Any number of processes may have it open. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const dataDir = path.resolve(options.dataDir);
  await prepareDataDir(dataDir);
  const database = await Database.open(path.join(dataDir, "store"), dataDir, options.lockWaitMs);
  try {
    const { tables, installId } = await openTables(database, dataDir);
    const store = new LmdbStore(database, tables, {
      installId,
      dataDir,
      host: typeof options.host === "string" ? options.host : options.host(installId),
      tenant: options.tenant ?? "default",
      journalMaxBytes: options.journalMaxBytes ?? 256 * 1024 * 1024,
      endedDays: options.endedDays ?? 7,
      keptExecs: options.keptExecs ?? 2000,
      clock: options.clock ?? Date.now,
      ...(options.logger !== undefined && { logger: options.logger }),
    });
    await store.register();
    return store;
  } catch (error) {
    await database.close();
    throw error;
  }
}
