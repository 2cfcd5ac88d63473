import { hasCode } from "../errors.ts";
import type { ExecSnapshot, Guest } from "./guest/types.ts";
import { pause } from "./wait.ts";

/** Commands that are done by then cost nothing more than without progress. */
const firstMs = 250;
/** Between two messages; the edge drops what comes faster than four a second. */
const betweenMs = 260;
const waitMs = 30_000;
/** Room for marks in the 1024 bytes of a message. */
const messageBytes = 960;

interface Offsets {
  stdout: number;
  stderr: number;
}

/** Awaits the work on an exec, and meanwhile reports what the exec prints beyond the offsets, newest last. */
export async function followed<T>(
  work: Promise<T>,
  guest: Guest,
  execId: string,
  offsets: Offsets,
  report: ((message: string) => void) | undefined,
): Promise<T> {
  if (!report) return work;
  const stop = new AbortController();
  // Progress is a courtesy: its failure is the work's to tell.
  follow(guest, execId, offsets, report, stop.signal).catch(() => {});
  try {
    return await work;
  } finally {
    stop.abort();
  }
}

async function follow(
  guest: Guest,
  execId: string,
  offsets: Offsets,
  report: (message: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let { stdout, stderr } = offsets;
  for (let ms = firstMs; ; ms = betweenMs) {
    await pause(ms, signal);
    if (signal.aborted) return;
    const snapshot = await glance(guest, execId, { stdout, stderr }, signal);
    if (!snapshot) continue;
    const message = progressText(snapshot, { stdout, stderr });
    if (message !== "" && !signal.aborted) report(message);
    if (snapshot.exec.status !== "running") return;
    ({ stdout, stderr } = { stdout: snapshot.exec.stdout_bytes, stderr: snapshot.exec.stderr_bytes });
  }
}

/** The newest of what is beyond the offsets, once there is something; undefined while the exec has not started. */
async function glance(
  guest: Guest,
  execId: string,
  { stdout, stderr }: Offsets,
  signal: AbortSignal,
): Promise<ExecSnapshot | undefined> {
  try {
    return await guest.viewExec(
      execId,
      {
        until: "output",
        wait_ms: waitMs,
        stdout_offset: stdout,
        stderr_offset: stderr,
        tail_lines: 12,
        max_bytes: messageBytes,
      },
      signal,
    );
  } catch (error) {
    if (hasCode(error, "EXEC_NOT_FOUND")) return undefined;
    throw error;
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is being removed
const escapes = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is being removed
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Output as a line or a few for people: colours are gone, and of a line that redraws itself the last state stays. */
export function progressText(snapshot: ExecSnapshot, offsets: Offsets): string {
  const next = { ...offsets };
  let text = "";
  for (const { stream, from, bytes } of snapshot.segments) {
    if (from > next[stream]) text += "…\n";
    text += new TextDecoder().decode(bytes);
    next[stream] = from + bytes.length;
  }
  return text
    .replace(escapes, "")
    .split("\n")
    .map((line) => (line.split("\r").findLast((state) => state !== "") ?? "").replace(controls, ""))
    .join("\n")
    .trimEnd();
}
