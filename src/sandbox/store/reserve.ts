import { closeSync, fstatSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import type { RootDatabase } from "lmdb";
import { SandboxError } from "../../errors.ts";

/** More than some hundred ends of sandboxes take. */
const reserveBytes = 4 * 1024 * 1024;
const stepBytes = 1024 * 1024;
const zeros = Buffer.alloc(stepBytes);

/**
 * Disk that LMDB's file has beyond the pages in use, so that what is necessary can be written when there is no more. LMDB takes no
 * notice of it: pages come one after the other, and the file's length tells nothing.
 */
export class Reserve {
  readonly #path: string;
  readonly #pageBytes: number;
  #file: number | undefined;
  #bytes = 0;

  /** @param folder the environment's */
  constructor(root: RootDatabase<string, string>, folder: string) {
    this.#path = path.join(folder, "data.mdb");
    this.#pageBytes = pageSize(root.getStats());
  }

  /** For write transactions only: nobody else writes the file meanwhile, and nothing was ever behind its end. */
  keep(lastPage: number): void {
    const wanted = (lastPage + 1) * this.#pageBytes + reserveBytes;
    if (this.#bytes >= wanted) return;
    this.#file ??= openSync(this.#path, "r+");
    this.#bytes = fstatSync(this.#file).size;
    try {
      while (this.#bytes < wanted) this.#bytes += writeSync(this.#file, zeros, 0, stepBytes, this.#bytes);
    } catch {
      // The disk became full: what there is of it is enough for now, and the next transaction tries again.
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

function pageSize(stats: object): number {
  if ("pageSize" in stats && typeof stats.pageSize === "number") return stats.pageSize;
  throw new SandboxError("INTERNAL", "This version of lmdb does not tell the size of its pages.");
}
