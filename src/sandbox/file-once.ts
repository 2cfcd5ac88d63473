import { hasCode, SandboxError } from "../errors.ts";
import { withGuest } from "./access.ts";
import type { Core } from "./core.ts";
import type { FileToWrite, Guest } from "./guest/types.ts";

/** Changes files. A change whose answer got lost is not repeated: someone may have changed them since. It says so instead. */
export async function onceOnly<T>(
  core: Core,
  sandboxId: string,
  signal: AbortSignal,
  whether: string,
  change: (guest: Guest) => Promise<T>,
): Promise<T> {
  let sent = false;
  const use = (guest: Guest): Promise<T> => {
    sent = true;
    return change(guest);
  };
  try {
    return await withGuest(core, sandboxId, signal, use, { repeatable: false });
  } catch (error) {
    const unsure = sent && hasCode(error, "GUEST_UNAVAILABLE", "TIMEOUT", "BACKEND_UNAVAILABLE");
    if (!unsure) throw error;
    throw new SandboxError(error.code, `${error.message} Whether ${whether} is not known.`, {
      cause: error,
      retryable: false,
      next: "Look with file_list or file_read whether it was, then call again if not.",
    });
  }
}

export const writeOnce = (core: Core, sandboxId: string, files: FileToWrite[], signal: AbortSignal) =>
  onceOnly(core, sandboxId, signal, "the files were written", (guest) => guest.writeFiles(files, signal));
