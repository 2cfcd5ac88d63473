import { closeSync, type FSWatcher, openSync, watch, writeSync } from "node:fs";
import type { Logger } from "../../logger.ts";

/** Covers what the bell missed: a writer killed between its commit and the bell, a watcher the kernel refused. */
const safetyPollMs = 1000;

export interface DoorbellOptions {
  path: string;
  /** Cursor of the newest entry any process committed, read afresh. */
  newest: () => number;
  logger?: Logger;
}

/**
 * Tells the processes of an install that the journal grew: a writer overwrites one byte of a file after its commit, readers
 * watch the file. Nothing in here keeps a process alive.
 */
export class Doorbell {
  readonly #options: DoorbellOptions;
  readonly #fd: number;
  readonly #listeners = new Set<() => void>();
  #seen = 0;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #ringing = false;
  #closed = false;

  constructor(options: DoorbellOptions) {
    this.#options = options;
    this.#fd = openSync(options.path, "a+", 0o600);
    // "a+" creates; writes at a position need "r+", and one byte that is there already needs no space on a full disk.
    closeSync(this.#fd);
    this.#fd = openSync(options.path, "r+");
    this.#write();
  }

  /** After a commit of this process. Calls within one turn become one; who waits for the commit goes before who listens. */
  ring(): void {
    if (this.#ringing || this.#closed) return;
    this.#ringing = true;
    setImmediate(() => {
      this.#ringing = false;
      if (this.#closed) return;
      this.#write();
      this.#answer();
    });
  }

  /**
   * A reader is shown no more than this. Another process that opens the store can turn readers back for a moment (`CommitOrder`):
   * if the listeners were called for more, they are called again once it is there.
   */
  shown(newest: number): void {
    this.#seen = Math.min(this.#seen, newest);
  }

  listen(listener: () => void): () => void {
    // A function may be registered twice; each registration is its own.
    const own = () => listener();
    if (this.#listeners.size === 0) this.#start();
    this.#listeners.add(own);
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#stop();
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#ringing) this.#write();
    this.#listeners.clear();
    this.#stop();
    closeSync(this.#fd);
  }

  #write(): void {
    try {
      writeSync(this.#fd, "!", 0);
    } catch (error) {
      this.#options.logger?.debug({ err: error }, "the journal's bell could not be rung");
    }
  }

  /** Calls the listeners when there is news; several signals for the same entries call them once. */
  #answer(): void {
    if (this.#closed || this.#listeners.size === 0) return;
    const newest = this.#options.newest();
    if (newest === this.#seen) return;
    this.#seen = newest;
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (error) {
        this.#options.logger?.error({ err: error }, "a listener of the journal failed");
      }
    }
  }

  #start(): void {
    this.#seen = this.#options.newest();
    try {
      this.#watcher = watch(this.#options.path, { persistent: false }, () => this.#answer());
      this.#watcher.on("error", (error) => {
        this.#options.logger?.warn({ err: error }, "the journal's bell cannot be watched; polling instead");
        this.#watcher?.close();
      });
    } catch (error) {
      this.#options.logger?.warn({ err: error }, "the journal's bell cannot be watched; polling instead");
    }
    this.#poll = setInterval(() => this.#answer(), safetyPollMs).unref();
  }

  #stop(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }
}
