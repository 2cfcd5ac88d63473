import { StringDecoder } from "node:string_decoder";

/** What the lines of a stream turn out to be. */
export type Frame = { line: string } | { tooLong: { head: string; tail: string } };

const edge = 512;

/**
 * Cuts a byte stream at newlines in time linear in its size. A line above `maxBytes` is thrown away as it comes; its first and
 * last bytes are kept, where a JSON-RPC request has its id.
 */
export class LineFramer {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #size = 0;
  #head: Buffer | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The frames that this chunk completes. */
  *push(chunk: Buffer): Generator<Frame> {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#add(chunk.subarray(start, end));
      start = end + 1;
      yield this.#take();
    }
    if (start < chunk.length) this.#add(chunk.subarray(start));
  }

  #add(part: Buffer): void {
    this.#size += part.length;
    this.#parts.push(part);
    if (this.#size <= this.#maxBytes) return;
    const kept = Buffer.concat(this.#parts);
    this.#head ??= Buffer.from(kept.subarray(0, edge));
    this.#parts = [Buffer.from(kept.subarray(-edge))];
  }

  #take(): Frame {
    const [only] = this.#parts;
    const line = this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts);
    const head = this.#head;
    this.#parts = [];
    this.#size = 0;
    this.#head = undefined;
    if (head === undefined) return { line: line.toString("utf8") };
    return { tooLong: { head: new StringDecoder("utf8").write(head), tail: line.toString("utf8") } };
  }
}

/** The id of a JSON-RPC request of which only the ends are known: id stands first or last in what clients send. */
export function idFromEdges({ head, tail }: { head: string; tail: string }): string | number | undefined {
  const id = String.raw`"id"\s*:\s*(-?\d{1,15}|"[^"\\]{0,128}")`;
  const found =
    new RegExp(String.raw`,\s*${id}\s*\}\s*$`).exec(tail)?.[1] ??
    new RegExp(String.raw`^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?${id}\s*,`).exec(head)?.[1];
  if (found === undefined) return undefined;
  return found.startsWith('"') ? found.slice(1, -1) : Number(found);
}
