import { hasCode, SandboxError } from "../errors.ts";
import type { Call, ExecRequest } from "./api.ts";
import { metaOf } from "./asked.ts";
import { workdir } from "./core.ts";
import type { ExecStart, Guest } from "./guest/types.ts";

/** What goes along with the start, so that nothing of it can get lost; more is fed while the process reads. */
const inlineStdinBytes = 1024 * 1024;

export interface Started {
  start: ExecStart;
  /** Standard input too long to go along with the start. */
  feed?: { bytes: Buffer; eof: boolean };
}

/** Pure: a request as the guest wants it. */
export function execStart(request: ExecRequest, call: Call): Started {
  if ((request.command === undefined) === (request.argv === undefined)) {
    throw new SandboxError("INVALID_ARGUMENT", "Give exactly one of `command` (a shell line) and `argv` (a list).");
  }
  const tty = request.tty_rows !== undefined || request.tty_cols !== undefined;
  const stdin = request.stdin ?? "";
  const long = stdin.length > inlineStdinBytes / 3 && Buffer.byteLength(stdin) > inlineStdinBytes;
  const start: ExecStart = {
    ...(request.command !== undefined && { command: request.command }),
    ...(request.argv !== undefined && { argv: request.argv }),
    cwd: request.cwd ?? workdir,
    ...(request.env && { env: request.env }),
    ...(stdin !== "" && !long && { stdin }),
    ...((request.keep_stdin || long) && { keep_stdin: true }),
    ...(tty && { tty: { rows: request.tty_rows ?? 24, cols: request.tty_cols ?? 80 } }),
    ...(request.merge_stderr && { merge_stderr: true }),
    ...(request.timeout_s !== undefined && { timeout_ms: Math.round(request.timeout_s * 1000) }),
    meta: metaOf(call),
  };
  if (!long) return { start };
  return { start, feed: { bytes: Buffer.from(stdin), eof: !request.keep_stdin && !tty } };
}

/**
 * Gives the process the rest of its stdin as it reads. A process that ends first needed no more; a connection that breaks leaves it
 * without end of file, so that half of an input is never taken for all of it.
 */
export async function feedStdin(
  guest: Guest,
  execId: string,
  feed: { bytes: Buffer; eof: boolean },
  failed: (error: unknown) => void,
): Promise<void> {
  try {
    await guest.feedStdin(execId, feed.bytes, feed.eof);
  } catch (error) {
    if (hasCode(error, "EXEC_ENDED")) return;
    failed(error);
  }
}

/** When the connection breaks while input is on its way, the command may have half of it. */
export function orHalfGiven(execId: string, error: unknown): unknown {
  if (!hasCode(error, "GUEST_UNAVAILABLE")) return error;
  return new SandboxError(
    "GUEST_UNAVAILABLE",
    `The connection to the sandbox broke while input was sent to ${execId}: how much of it the command has is not known.`,
    {
      next: `See with exec_output what it made of it, or exec_kill it and run it again; large inputs can come from a file (file_write).`,
      retryable: false,
      cause: error,
    },
  );
}

/** A start that was sent and not answered may have got through: the same call again would run the command twice. */
export function orUnsure(sandboxId: string, execId: string, error: unknown): unknown {
  if (!hasCode(error, "TIMEOUT", "GUEST_UNAVAILABLE", "BACKEND_UNAVAILABLE") || !error.retryable) return error;
  const place = JSON.stringify({ sandbox_id: sandboxId, exec_id: execId });
  const first = error.code === "BACKEND_UNAVAILABLE" ? "Once the container engine answers, call" : "Call";
  return new SandboxError(error.code, `${error.message} Whether the command runs is not known.`, {
    next: `${first} exec_output ${place} before you run it again: EXEC_NOT_FOUND there means that it never started.`,
    retryable: false,
    cause: error,
  });
}
