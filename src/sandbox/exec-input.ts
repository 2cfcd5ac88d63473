import { hasCode, SandboxError } from "../errors.ts";
import type { ExecInputRequest } from "./api.ts";
import { bytesOfBase64 } from "./base64.ts";
import { orHalfGiven } from "./exec-start.ts";
import type { Guest } from "./guest/types.ts";

/** How long a process may take to read before what it has not taken is given back. */
const patienceMs = 10_000;

/** Resizes the terminal, then writes, then ends: in the order that a person would. Tells how many bytes the process took. */
export async function writeInput(
  guest: Guest,
  execId: string,
  request: ExecInputRequest,
  signal: AbortSignal,
): Promise<{ accepted_bytes: number }> {
  const size = sizeOf(request);
  const bytes = bytesOf(request);
  const eof = request.eof === true;
  if (!size && !bytes && !eof) throw invalid("Nothing to do: give data, data_base64, eof, or tty_rows and tty_cols.");
  try {
    if (size) await guest.resize(execId, size, signal);
    if (!bytes && !eof) return { accepted_bytes: 0 };
    return { accepted_bytes: await guest.writeStdin(execId, bytes ?? Buffer.alloc(0), eof, signal, patienceMs) };
  } catch (error) {
    if (!hasCode(error, "EXEC_ENDED")) throw orHalfGiven(execId, error);
    throw await overOrClosed(guest, execId, signal, error);
  }
}

/** The guest refuses both alike; for who typed they differ. */
async function overOrClosed(
  guest: Guest,
  execId: string,
  signal: AbortSignal,
  cause: SandboxError,
): Promise<SandboxError> {
  const { exec } = await guest.viewExec(execId, { max_bytes: 0 }, signal);
  if (exec.status !== "running") {
    return new SandboxError("EXEC_ENDED", `Exec ${execId} has ended: it takes no input.`, { cause });
  }
  return new SandboxError("EXEC_ENDED", `The stdin of exec ${execId} is closed, though it still runs.`, {
    next: "Input needs exec_run with keep_stdin: true or a terminal (tty_rows), and ends with eof.",
    cause,
  });
}

function sizeOf({ tty_rows, tty_cols }: ExecInputRequest): { rows: number; cols: number } | undefined {
  if (tty_rows === undefined && tty_cols === undefined) return undefined;
  if (tty_rows === undefined || tty_cols === undefined) throw invalid("A new size needs both tty_rows and tty_cols.");
  return { rows: tty_rows, cols: tty_cols };
}

function bytesOf({ data, data_base64 }: ExecInputRequest): Buffer | undefined {
  if (data !== undefined && data_base64 !== undefined) throw invalid("Give data (text) or data_base64, not both.");
  if (data !== undefined) return Buffer.from(data);
  if (data_base64 === undefined) return undefined;
  const bytes = bytesOfBase64(data_base64);
  if (bytes === undefined) throw invalid("data_base64 is not base64 (A–Z a–z 0–9 + /, padded with =).");
  return bytes;
}

const invalid = (message: string): SandboxError => new SandboxError("INVALID_ARGUMENT", message);
