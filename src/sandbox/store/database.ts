import type { RootDatabase } from "lmdb";
import { SandboxError } from "../../errors.ts";
import { CommitOrder, TurnedBack } from "./commit-order.ts";
import { requireRoom } from "./disk.ts";
import { storeFailure } from "./failures.ts";
import { Reserve } from "./reserve.ts";
import { type Kept, Table } from "./table.ts";

/** How long closing waits for what is under way. */
const closeWaitMs = 3000;
/** How often a transaction begins at most, when others open the store meanwhile: one opening turns it back once. */
const mostTurns = 100;

const options = {
  encoding: "string",
  maxDbs: 32,
  // Data is flushed before each commit, so a power cut leaves a whole store; it may undo the last commits until `sync`.
  noSync: false,
  noMetaSync: true,
  // lmdb's own way of flushing after the commit takes a second lock. When a process is killed holding that one, the next
  // writer of another process that meets it declares its environment broken (MDB_PANIC) and never answers again.
  overlappingSync: false,
  // It would add a promise of lmdb's own to each group, and nobody could catch its rejection.
  eventTurnBatching: false,
} as const;

/** Pages that a plan touches in all, and what its text comes to in pages: about. */
const bytesOfPlan = 16 * 1024;
const bytesOfText = 2;

type Root = RootDatabase<string, string>;

/** The LMDB environment: transactions that keep all or nothing, and what may be asked of it when. */
export class Database {
  readonly #root: Root;
  readonly #order: CommitOrder;
  readonly #reserve: Reserve;
  readonly #dataDir: string;
  /** How long a write waits for the lock that another process holds. LMDB frees it when that process dies. */
  readonly #lockWaitMs: number;
  readonly #running = new Set<Promise<unknown>>();
  /** Tables the plan that runs has written to. */
  readonly #written = new Set<Kept>();
  /** What the commit under way takes, about. */
  readonly #group = { commit: 0, bytes: 0 };
  #writing = false;
  #closed = false;

  private constructor(root: Root, order: CommitOrder, reserve: Reserve, dataDir: string, lockWaitMs: number) {
    this.#root = root;
    this.#order = order;
    this.#reserve = reserve;
    this.#dataDir = dataDir;
    this.#lockWaitMs = lockWaitMs;
  }

  /** Opens or creates the files at `path`. lmdb is native and slow to load, so it is loaded here and not with this module. */
  static async open(path: string, dataDir: string, lockWaitMs = 20_000): Promise<Database> {
    try {
      const { open } = await import("lmdb");
      const root = open<string, string>({ path, ...options });
      return new Database(root, new CommitOrder(root, path), new Reserve(root, path), dataDir, lockWaitMs);
    } catch (error) {
      throw await storeFailure(dataDir, error);
    }
  }

  /** Opens the tables that `open` asks for, and makes those that are new, in one transaction. */
  async tables<T>(open: () => T): Promise<T> {
    this.assertOpen();
    return await inOrder(async () => {
      try {
        return this.#root.transactionSync(() => {
          this.#order.check();
          return open();
        });
      } catch (error) {
        throw error instanceof TurnedBack ? error : await storeFailure(this.#dataDir, error);
      }
    });
  }

  /**
   * Inside `tables` only.
   * @param mostRemembered for a table whose values are read over and over
   */
  table<V>(name: string, mostRemembered = 0): Table<V> {
    return new Table<V>(this, this.#root.openDB<string, string>(name, { encoding: "string" }), mostRemembered);
  }

  /**
   * Runs `plan` inside the write lock of all processes and resolves once it is committed. Calls in flight together share a
   * commit; each is a child transaction of its own, so one that throws takes back what it wrote and nothing else.
   * @param needsRoom refuses the plan while the disk is full. @default false: then it has the reserve
   */
  async transact<T>(plan: () => T, { needsRoom = false } = {}): Promise<T> {
    this.assertOpen();
    const running = inOrder(() => this.#transact(plan, needsRoom));
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #transact<T>(plan: () => T, needsRoom: boolean): Promise<T> {
    let phase: "waiting" | "started" | "abandoned" = "waiting";
    let thrown: { error: unknown } | undefined;
    const committed = this.#root.childTransaction(() => {
      if (phase === "abandoned") return undefined;
      phase = "started";
      this.#writing = true;
      try {
        const lastPage = this.#order.check();
        this.#join();
        if (needsRoom) {
          requireRoom(this.#dataDir, this.#group.bytes);
          this.#reserve.keep(lastPage);
        }
        const result = plan();
        for (const table of this.#written) table.flush();
        return { result };
      } catch (error) {
        for (const table of this.#written) table.forget();
        thrown = { error };
        throw error;
      } finally {
        this.#written.clear();
        this.#writing = false;
      }
    });
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => {
        if (phase !== "waiting") return;
        phase = "abandoned";
        resolve(undefined);
      }, this.#lockWaitMs).unref();
    });
    try {
      const outcome = await Promise.race([committed, patience]);
      if (outcome !== undefined) return outcome.result;
    } catch (error) {
      throw thrown !== undefined && thrown.error === error ? error : await storeFailure(this.#dataDir, error);
    } finally {
      clearTimeout(timer);
    }
    committed.catch(() => {});
    throw new SandboxError(
      "TIMEOUT",
      `Another process held the store in ${this.#dataDir} for ${this.#lockWaitMs / 1000} s.`,
      {
        next: "Call again; if it happens again, look for a stopped chorus-sandbox process and continue or end it.",
      },
    );
  }

  /** Resolves once everything any process committed so far is on the disk. */
  async sync(): Promise<void> {
    this.assertOpen();
    const root = this.#root;
    if (!canSync(root)) throw new SandboxError("INTERNAL", "This version of lmdb cannot be flushed.");
    const synced = new Promise<void>((resolve, reject) => {
      root.sync((error) => (error === undefined ? resolve() : reject(error)));
    });
    this.#running.add(synced);
    try {
      await synced;
    } catch (error) {
      throw await storeFailure(this.#dataDir, error);
    } finally {
      this.#running.delete(synced);
    }
  }

  /** Lets the next read see what other processes committed since the present turn of the event loop began. */
  refresh(): void {
    this.assertOpen();
    if (!this.#writing) this.#root.resetReadTxn();
  }

  /** Frees the reader slots of killed processes, which would keep old pages from being used again. */
  freeDeadReaders(): void {
    this.assertOpen();
    this.#root.readerCheck();
  }

  assertOpen(): void {
    if (this.#closed) throw new SandboxError("ABORTED", "The store is closed.", { next: "Start the server again." });
  }

  /** One plan more in the commit under way. */
  #join(): void {
    const commit = this.#root.getWriteTxnId();
    if (this.#group.commit !== commit) Object.assign(this.#group, { commit, bytes: 0 });
    this.#group.bytes += bytesOfPlan;
  }

  /** A table tells of all it writes. */
  wrote(text: string): void {
    this.#group.bytes += bytesOfText * text.length;
  }

  /** A table tells of the first thing it keeps back for the end of the plan. */
  written(table: Kept): void {
    this.#written.add(table);
  }

  assertWriting(): void {
    this.assertOpen();
    if (!this.#writing) throw new SandboxError("INTERNAL", "The store is written only inside a plan.");
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#running);
    this.#reserve.close();
    // A lock that another process holds must not keep this one from ending.
    const patience = new Promise<void>((resolve) => setTimeout(resolve, closeWaitMs).unref());
    await Promise.race([this.#root.close(), patience]);
  }
}

/** Begins a transaction anew as long as others turn it back. */
async function inOrder<T>(transaction: () => Promise<T>): Promise<T> {
  for (let turn = 1; ; turn++) {
    try {
      return await transaction();
    } catch (error) {
      if (!(error instanceof TurnedBack)) throw error;
      if (turn === mostTurns)
        throw new SandboxError("INTERNAL", "The store loses its newest commit.", { cause: error });
    }
  }
}

/** `sync` is in lmdb's code and missing in its types. */
function canSync(root: Root): root is Root & { sync(done: (error?: unknown) => void): void } {
  return "sync" in root && typeof root.sync === "function";
}
