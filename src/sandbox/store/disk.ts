import { statfsSync } from "node:fs";
import { SandboxError } from "../../errors.ts";

/**
 * So much is kept free, which is more than one plan takes: where a write of a commit meets a full disk, lmdb 3.5.6 formats the message
 * into too small a buffer (`mdb_page_flush`, 100 bytes), and the process may die of it at any later moment.
 */
export const leastFreeBytes = 4 * 1024 * 1024;

/**
 * Throws LIMIT_EXCEEDED unless a plan's commit fits on the disk. Costs about 2 µs.
 * @param taken what the commit has already that the disk does not show
 */
export function requireRoom(dataDir: string, taken = 0): void {
  if (freeBytes(dataDir) - taken < leastFreeBytes) throw diskFull(dataDir);
}

/** What a user other than root may still write; infinite where the file system does not tell. */
export function freeBytes(dataDir: string): number {
  try {
    const { bavail, bsize, blocks } = statfsSync(dataDir);
    return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

export const diskFull = (dataDir: string, cause?: unknown): SandboxError =>
  new SandboxError("LIMIT_EXCEEDED", `The disk that holds the store is full (${dataDir}).`, {
    next: `Free space on the file system of ${dataDir} (CHORUS_SANDBOX_DATA_DIR) and call again.`,
    retryable: true,
    cause,
  });
