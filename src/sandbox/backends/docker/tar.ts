/** A file or folder of an archive for the engine; owner root, one fixed time, so that equal content is equal bytes. */
export interface TarEntry {
  name: string;
  mode: number;
  /** Left out for a folder. */
  content?: Buffer;
}

const block = 512;

/** An uncompressed ustar archive. Names are ours: ASCII and at most 100 bytes. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    const size = entry.content?.length ?? 0;
    parts.push(header(entry, size));
    if (entry.content !== undefined) parts.push(entry.content, Buffer.alloc((block - (size % block)) % block));
  }
  parts.push(Buffer.alloc(2 * block));
  return Buffer.concat(parts);
}

function header(entry: TarEntry, size: number): Buffer {
  const bytes = Buffer.alloc(block);
  if (Buffer.byteLength(entry.name) > 100) throw new RangeError(`name too long for ustar: ${entry.name}`);
  bytes.write(entry.name, 0, "utf8");
  octal(entry.mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  bytes.fill(" ", 148, 156);
  bytes.write(entry.content === undefined ? "5" : "0", 156, "latin1");
  bytes.write("ustar\u000000", 257, "latin1");
  octal(
    bytes.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return bytes;

  function octal(value: number, at: number, width: number): void {
    bytes.write(`${value.toString(8).padStart(width - 1, "0")}\u0000`, at, "latin1");
  }
}

/** Content of the first regular file of an archive; undefined when it has none. */
export function firstFile(archive: Buffer): Buffer | undefined {
  for (let at = 0; at + block <= archive.length; ) {
    const size = Number.parseInt(archive.toString("latin1", at + 124, at + 136).replace(/[^0-7]/g, ""), 8);
    const type = archive[at + 156];
    if (Number.isNaN(size)) return undefined;
    if (type === 0x30 || type === 0) return archive.subarray(at + block, at + block + size);
    at += block + Math.ceil(size / block) * block;
  }
  return undefined;
}
