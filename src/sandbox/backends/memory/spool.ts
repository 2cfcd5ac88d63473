const keptBytes = 4 * 1024 * 1024;

interface Segment {
  from: number;
  bytes: Buffer;
}

/** Output of one stream: the first and the last 4 MiB of it. */
export class Spool {
  total = 0;
  #head: Buffer = Buffer.alloc(0);
  #tail: Buffer = Buffer.alloc(0);

  add(bytes: Buffer): void {
    this.total += bytes.length;
    const room = keptBytes - this.#head.length;
    this.#head = Buffer.concat([this.#head, bytes.subarray(0, room)]);
    this.#tail = Buffer.concat([this.#tail, bytes.subarray(room)]);
    if (this.#tail.length > keptBytes) this.#tail = this.#tail.subarray(this.#tail.length - keptBytes);
  }

  /** Ranges still kept; head and tail touch unless something was dropped. */
  get kept(): [number, number][] {
    if (this.total === 0) return [];
    const head = this.#head.length;
    const tailFrom = this.total - this.#tail.length;
    if (tailFrom === head) return [[0, this.total]];
    return [
      [0, head],
      [tailFrom, this.total],
    ];
  }

  get dropped(): number {
    return this.total - this.#head.length - this.#tail.length;
  }

  /** What is kept from the offset on. */
  from(offset: number): Segment[] {
    const tailFrom = this.total - this.#tail.length;
    const head = { from: Math.min(offset, this.#head.length), bytes: this.#head.subarray(offset) };
    const from = Math.max(offset, tailFrom);
    const tail = { from, bytes: this.#tail.subarray(from - tailFrom) };
    if (tailFrom === this.#head.length && head.bytes.length > 0) {
      return [{ from: head.from, bytes: Buffer.concat([head.bytes, tail.bytes]) }];
    }
    return [head, tail].filter(({ bytes }) => bytes.length > 0);
  }

  /** At most `limit` bytes from the offset on: all of it, or a third from its head and the rest from its tail. */
  cut(offset: number, limit: number): Segment[] {
    const all = this.from(offset);
    const [first, last] = [all[0], all.at(-1)];
    if (first === undefined || last === undefined || limit <= 0) return [];
    if (all.reduce((sum, { bytes }) => sum + bytes.length, 0) <= limit) return all;
    const head = { from: first.from, bytes: first.bytes.subarray(0, Math.floor(limit / 3)) };
    const room = Math.min(limit - head.bytes.length, last.from + last.bytes.length - head.from - head.bytes.length);
    const skipped = Math.max(0, last.bytes.length - room);
    const tail = { from: last.from + skipped, bytes: last.bytes.subarray(skipped) };
    return [head, tail].filter(({ bytes }) => bytes.length > 0);
  }
}
