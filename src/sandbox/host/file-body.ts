import { ftruncate, writeSync, writev } from "node:fs";
import { promisify } from "node:util";
import type { TarReader } from "./tar-reader.ts";

const smallBytes = 64 * 1024;
const batchBytes = 1024 * 1024;
const zeros = Buffer.alloc(64 * 1024);

const writeAll = promisify(writev);
const truncate = promisify(ftruncate);

/** Writes the body of the archive's present entry to an open, empty file. `count` hears of bytes read and of those that cost disk. */
export async function writeBody(
  fd: number,
  size: number,
  archive: TarReader,
  count: (read: number, written: number) => void,
): Promise<void> {
  if (size > smallBytes) return writeLarge(fd, size, archive, count);
  for (let piece = await archive.body(); piece !== undefined; piece = await archive.body()) {
    for (let at = 0; at < piece.length; ) at += writeSync(fd, piece, at);
    count(piece.length, piece.length);
  }
}

/** Writes one batch while the next arrives. Zeros become holes, so that a file of holes costs no disk. */
async function writeLarge(
  fd: number,
  size: number,
  archive: TarReader,
  count: (read: number, written: number) => void,
): Promise<void> {
  let batch: Buffer[] = [];
  let batched = 0;
  let at = 0;
  let writing: Promise<void> = Promise.resolve();
  const flush = async (): Promise<void> => {
    const pieces = batch;
    const from = at - batched;
    batch = [];
    batched = 0;
    await writing;
    if (pieces.length > 0) writing = writeWhole(fd, pieces, from);
    // Awaited by the next flush: a failure meanwhile is not unheard.
    writing.catch(() => {});
  };
  try {
    for (let piece = await archive.body(); piece !== undefined; piece = await archive.body()) {
      for (let from = 0; from < piece.length; from += zeros.length) {
        const part = piece.subarray(from, from + zeros.length);
        const hole = part.equals(zeros.subarray(0, part.length));
        if (hole) await flush();
        else {
          batch.push(part);
          batched += part.length;
        }
        at += part.length;
        count(part.length, hole ? 0 : part.length);
      }
      if (batched >= batchBytes) await flush();
    }
    await flush();
  } finally {
    // The file is closed when this ends.
    await writing;
  }
  await truncate(fd, size);
}

async function writeWhole(fd: number, pieces: Buffer[], position: number): Promise<void> {
  const { bytesWritten } = await writeAll(fd, pieces, position);
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (bytesWritten === total) return;
  if (bytesWritten === 0) throw Object.assign(new Error("nothing was written"), { code: "EIO" });
  await writeWhole(fd, [Buffer.concat(pieces).subarray(bytesWritten)], position + bytesWritten);
}
