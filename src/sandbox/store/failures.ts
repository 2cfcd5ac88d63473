import { constants } from "node:os";
import { quoted, SandboxError } from "../../errors.ts";
import { diskFull, freeBytes, leastFreeBytes } from "./disk.ts";

const fullCodes: ReadonlySet<number> = new Set([constants.errno.ENOSPC, constants.errno.EDQUOT, constants.errno.EFBIG]);

/** What a failed commit or open of the store means to the caller. Nothing of the transaction was kept. */
export async function storeFailure(dataDir: string, error: unknown): Promise<SandboxError> {
  if (error instanceof SandboxError) return error;
  const cause = await commitCause(error);
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const words = cause instanceof Error ? cause.message : String(cause);
  const full =
    (typeof code === "number" && fullCodes.has(code)) ||
    code === "ENOSPC" ||
    code === "EDQUOT" ||
    // So LMDB reports a write that a full disk cut short.
    (code === constants.errno.EIO && freeBytes(dataDir) < leastFreeBytes);
  if (full) return diskFull(dataDir, cause);
  return new SandboxError("INTERNAL", `The store in ${dataDir} could not be written: ${quoted(words)}`, {
    next: `Check the file system of ${dataDir} (CHORUS_SANDBOX_DATA_DIR) and call again.`,
    cause,
  });
}

/** lmdb rejects every commit of a failed group alike and hands the reason over in a promise of its own. */
async function commitCause(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !("commitError" in error)) return error;
  const reason = Promise.resolve(error.commitError).then(
    () => error,
    (cause: unknown) => cause,
  );
  const patience = new Promise<unknown>((resolve) => setTimeout(resolve, 1000, error).unref());
  return await Promise.race([reason, patience]);
}
