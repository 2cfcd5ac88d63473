import { Notifier } from "./notifier.ts";

/** Stdin of a fake exec. */
export class Input implements AsyncIterable<Buffer> {
  ended = false;
  readonly #changed = new Notifier();
  readonly #queue: Buffer[] = [];

  push(bytes: Buffer): void {
    if (bytes.length > 0) this.#queue.push(bytes);
    this.#changed.notify();
  }

  end(): void {
    this.ended = true;
    this.#changed.notify();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) yield next;
      else if (this.ended) return;
      else await this.#changed.changed();
    }
  }
}
