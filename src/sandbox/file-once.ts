import { hasCode, SandboxError } from "../errors.ts";
import { withGuest } from "./access.ts";
import type { Call } from "./api.ts";
import type { Core } from "./core.ts";
import { changeTell } from "./file-changes.ts";
import type { FileTell, FileToWrite, Guest, GuestFacts } from "./guest/types.ts";
import { ingest } from "./ingest.ts";
import type { SandboxRecord } from "./store/types.ts";

/**
 * Changes files. A change whose answer got lost is not repeated: someone may have changed them since. It says so instead. That they
 * changed is a fact of the guest's, and no call waits until it is journaled.
 */
export async function changeOnce<T extends { facts?: GuestFacts }>(
  core: Core,
  record: SandboxRecord,
  call: Call,
  whether: string,
  change: (guest: Guest, tell: FileTell) => Promise<T>,
): Promise<Omit<T, "facts">> {
  const id = record.sandbox_id;
  let sent = false;
  const use = async (guest: Guest) => {
    sent = true;
    const { facts, ...answer } = await change(guest, changeTell(core, record, call));
    if (facts) void tellNow(core, id, facts, guest);
    return answer;
  };
  try {
    return await withGuest(core, id, call.signal, use, { repeatable: false });
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

/** @param op of files that were there before. @default "write" */
export async function writeOnce(core: Core, record: SandboxRecord, files: FileToWrite[], call: Call, op?: "edit") {
  const written = await changeOnce(core, record, call, "the files were written", (guest, tell) =>
    guest.writeFiles(files, op ? { ...tell, op } : tell, call.signal),
  );
  return written.files;
}

/** Where that fails, the guest keeps the facts, and whoever reads them next tells them. */
async function tellNow(core: Core, sandboxId: string, facts: GuestFacts, guest: Guest): Promise<void> {
  try {
    await ingest(core, sandboxId, facts, guest, { gather: true });
  } catch (err) {
    core.logger.debug({ err, sandbox_id: sandboxId }, "a change of files is not journaled yet");
  }
}
