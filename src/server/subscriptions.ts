import type { Sandboxes } from "../sandbox/api.ts";
import type { JournalEntry } from "../sandbox/events.ts";
import { latestEvents, sandboxOf } from "./resources.ts";

/** What one subscription watches: URIs as the client wrote them, each with the sandbox it means; `*` is any. */
interface Watch {
  uris: Map<string, string>;
  list: boolean;
}

export interface Notices {
  updated(uri: string): Promise<void>;
  listChanged(): Promise<void>;
}

const listing: ReadonlySet<string> = new Set(["lifecycle.created", "lifecycle.destroyed", "lifecycle.failed"]);
const most = 1000;

/**
 * Resource subscriptions of one connection, of either era. The journal is followed only while there is one. Updates wait
 * for the client in a set, so that a slow reader costs no more than what it watches.
 */
export class Subscriptions {
  readonly #notices: Notices;
  readonly #watches = new Map<string | number, Watch>();
  readonly #dirty = new Set<string>();
  #listDirty = false;
  #flushing = false;
  #detach: (() => void) | undefined;

  constructor(notices: Notices) {
    this.#notices = notices;
  }

  get size(): number {
    return this.#watches.size;
  }

  /** `resolve` turns an id or a name into an id. */
  async add(
    key: string | number,
    asked: { uris: readonly string[]; list?: boolean },
    sandboxes: Sandboxes,
    resolve: (sandbox: string) => Promise<string>,
  ): Promise<void> {
    const watch: Watch = { uris: new Map(), list: asked.list ?? false };
    if (this.#watches.size >= most) return;
    this.#watches.set(key, watch);
    this.#detach ??= sandboxes.onEvents((entries) => this.#tell(entries));
    // Looking a name up takes a while, and the client may count on it already.
    const meanwhile = new Set<string>();
    const detach = sandboxes.onEvents((entries) => {
      for (const { sandbox_id } of entries) meanwhile.add(sandbox_id);
    });
    const watchOne = async (uri: string): Promise<void> => {
      if (uri === latestEvents) watch.uris.set(uri, "*");
      const sandbox = sandboxOf(uri);
      if (sandbox === undefined) return;
      watch.uris.set(uri, sandbox);
      const id = await resolve(sandbox);
      if (id === sandbox) return;
      watch.uris.set(uri, id);
      if (meanwhile.has(id) && this.#watches.get(key) === watch) this.#dirty.add(uri);
    };
    try {
      await Promise.all(asked.uris.slice(0, most).map(watchOne));
    } finally {
      detach();
    }
    void this.#flush();
  }

  remove(key: string | number): void {
    if (this.#watches.delete(key) && this.#watches.size === 0) this.clear();
  }

  clear(): void {
    this.#watches.clear();
    this.#dirty.clear();
    this.#listDirty = false;
    this.#detach?.();
    this.#detach = undefined;
  }

  #tell(entries: readonly JournalEntry[]): void {
    const touched = new Set(entries.map((entry) => entry.sandbox_id));
    const listed = entries.some((entry) => listing.has(entry.type));
    for (const watch of this.#watches.values()) {
      for (const [uri, sandbox] of watch.uris) if (sandbox === "*" || touched.has(sandbox)) this.#dirty.add(uri);
      if (watch.list && listed) this.#listDirty = true;
    }
    void this.#flush();
  }

  async #flush(): Promise<void> {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      while (this.#dirty.size > 0 || this.#listDirty) {
        if (this.#listDirty) {
          this.#listDirty = false;
          await this.#notices.listChanged();
        }
        const [uri] = this.#dirty;
        if (uri !== undefined && this.#dirty.delete(uri)) await this.#notices.updated(uri);
      }
    } catch {
      // The connection is gone: its close clears what is left.
    } finally {
      this.#flushing = false;
    }
  }
}
