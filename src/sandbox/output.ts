import { quoted } from "../errors.ts";
import { execNotes, type NoteContext } from "./exec-notes.ts";
import type { ExecSnapshot } from "./guest/types.ts";
import type { ExecResult } from "./views.ts";

/** Pure: what a guest's snapshot means for the one who reads it. */

export type Omitted = NonNullable<ExecResult["omitted"]>[number];

export interface StreamText {
  text: string;
  /** Offset after the last byte in `text`. */
  next: number;
  omitted: Omitted[];
}

type Stream = "stdout" | "stderr";

const piecesOf = ({ segments }: ExecSnapshot, stream: Stream) =>
  segments.filter((segment) => segment.stream === stream).sort((a, b) => a.from - b.from);

/** Text of one stream from `offset` on; invalid bytes become U+FFFD. What lies between segments is named, never joined silently. */
export function streamText(snapshot: ExecSnapshot, stream: Stream, offset: number): StreamText {
  const kept = stream === "stdout" ? snapshot.exec.stdout_kept : snapshot.exec.stderr_kept;
  const omitted: Omitted[] = [];
  let position = offset;
  let text = "";
  for (const { from, bytes } of piecesOf(snapshot, stream)) {
    if (from > position) {
      omitted.push(...splitByKept(stream, position, from, kept));
      text = `${ended(text)}[… ${from - position} bytes of ${stream} left out …]\n`;
    }
    text += new TextDecoder().decode(bytes);
    position = from + bytes.length;
  }
  return { text, next: position, omitted };
}

/** The lines that a search found, each place by its offset; what lies between was searched, not left out. */
export function matchText(snapshot: ExecSnapshot, stream: Stream, offset: number): StreamText {
  let text = "";
  let next = offset;
  for (const { from, bytes } of piecesOf(snapshot, stream)) {
    if (from > next) text = `${ended(text)}[… ${stream} from byte ${from} …]\n`;
    text += new TextDecoder().decode(bytes);
    // A line that has not ended may match once it has; one that is longer than an answer shows is not begun again for ever.
    const open = snapshot.exec.status === "running" && bytes.at(-1) !== newline;
    next = from + ((open ? bytes.lastIndexOf(newline) + 1 : 0) || bytes.length);
  }
  return { text, next, omitted: [] };
}

const newline = 0x0a;
const ended = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);

/** A left-out range in pieces: those the spool still has can be read, the others are gone. */
function splitByKept(
  stream: Stream,
  from: number,
  to: number,
  kept: readonly (readonly [number, number])[],
): Omitted[] {
  const pieces: Omitted[] = [];
  let position = from;
  for (const [start, end] of kept) {
    const [left, right] = [Math.max(start, position), Math.min(end, to)];
    if (left >= right) continue;
    if (left > position) pieces.push({ stream, from: position, to: left, recoverable: false });
    pieces.push({ stream, from: left, to: right, recoverable: true });
    position = right;
  }
  if (position < to) pieces.push({ stream, from: position, to, recoverable: false });
  return pieces;
}

/** What was asked for besides a place to read from. */
export interface Asked {
  stdout_offset?: number;
  stderr_offset?: number;
  until_match?: string;
  match?: string;
  max_bytes?: number;
}

/** The exec as tools return it. */
export function execResult(
  snapshot: ExecSnapshot,
  asked: Asked,
  context: NoteContext & { eventCursor: string },
): ExecResult {
  const { exec } = snapshot;
  const read = snapshot.found === undefined ? streamText : matchText;
  const stdout = read(snapshot, "stdout", asked.stdout_offset ?? 0);
  const stderr = read(snapshot, "stderr", asked.stderr_offset ?? 0);
  const omitted = [...stdout.omitted, ...stderr.omitted];
  const notes = [
    ...execNotes(exec, { stdout: stdout.text, stderr: stderr.text }, context),
    ...searchNotes(snapshot, asked),
  ];
  return {
    exec_id: exec.exec_id,
    status: exec.status,
    exit_code: exec.status === "exited" ? exec.exit_code : null,
    ...(exec.signal && { signal: exec.signal }),
    ...(exec.ended_by && { ended_by: exec.ended_by }),
    oom_kills: exec.oom_kills,
    left_running: exec.left_running,
    cwd: exec.cwd,
    started_at: exec.started_at,
    duration_ms: exec.duration_ms,
    stdout: stdout.text,
    stderr: stderr.text,
    stdout_bytes: exec.stdout_bytes,
    stderr_bytes: exec.stderr_bytes,
    stdout_next: stdout.next,
    stderr_next: stderr.next,
    ...(omitted.length > 0 && { omitted }),
    ...(notes.length > 0 && { notes }),
    event_cursor: context.eventCursor,
  };
}

/** What the guest's searches found. */
function searchNotes({ exec, matched, found }: ExecSnapshot, asked: Asked): string[] {
  const notes: string[] = [];
  if (asked.until_match !== undefined) {
    if (matched) {
      notes.push(`until_match: ${matched.stream} has at byte ${matched.offset} the line ${quoted(matched.line, 200)}.`);
    } else if (exec.status === "running") notes.push("until_match: no line matches so far.");
    else notes.push("until_match: it ended without a line that matches.");
  }
  if (asked.match !== undefined && !found) {
    notes.push("match: the guest of this sandbox is too old to search; a new sandbox can.");
  } else if (found) {
    const { total, partial, more } = found;
    const parts = [
      `match: ${partial ? "at least " : ""}${total === 1 ? "1 line matches" : `${total} lines match`}.`,
      more && "Not all are shown: the same call with stdout_offset and stderr_offset from *_next shows the next.",
      partial && "Not all of the output was searched in time.",
      exec.omitted_bytes > 0 && `${exec.omitted_bytes} bytes are no longer kept and were not searched.`,
    ];
    notes.push(parts.filter((part) => part !== false).join(" "));
  }
  return notes;
}
