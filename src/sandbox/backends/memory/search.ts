import type { FakeExec } from "./exec.ts";
import { Fault } from "./fault.ts";

type Stream = "stdout" | "stderr";
export interface Segment {
  from: number;
  bytes: Buffer;
}

const newline = 0x0a;

/** The server's words taken for those of this engine's language: near enough to RE2 for tests. */
export function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern);
  } catch {
    throw new Fault("INVALID_ARGUMENT", "the pattern is not RE2");
  }
}

interface Line extends Segment {
  matches: boolean;
}

/** Lines of what is kept from the offset on, the last one whole or not. */
function linesOf(segments: readonly Segment[], pattern: RegExp): Line[] {
  return segments.flatMap(({ from, bytes }) => {
    const lines: Line[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(newline, at) + 1 || bytes.length;
      const line = bytes.subarray(at, end);
      lines.push({ from: from + at, bytes: line, matches: pattern.test(line.toString().replace(/\r?\n$/, "")) });
      at = end;
    }
    return lines;
  });
}

/** The first line of either stream that matches. */
export function findLine(
  exec: FakeExec,
  offsets: Record<Stream, number>,
  pattern: RegExp,
): { stream: Stream; offset: number; line: string } | undefined {
  for (const stream of ["stdout", "stderr"] as const) {
    const found = linesOf(exec.spools[stream].from(offsets[stream]), pattern).find(({ matches }) => matches);
    if (found) {
      const line = found.bytes
        .toString()
        .replace(/\r?\n$/, "")
        .slice(0, 2000);
      return { stream, offset: found.from, line };
    }
  }
  return undefined;
}

/** Matching lines with one line on either side, neighbours joined. */
export function matching(segments: readonly Segment[], pattern: RegExp): { segments: Segment[]; total: number } {
  const lines = linesOf(segments, pattern);
  const found: Segment[] = [];
  for (const [index, line] of lines.entries()) {
    if (![lines[index - 1], line, lines[index + 1]].some((near) => near?.matches)) continue;
    const before = found.at(-1);
    if (before && before.from + before.bytes.length === line.from)
      before.bytes = Buffer.concat([before.bytes, line.bytes]);
    else found.push({ from: line.from, bytes: line.bytes });
  }
  return { segments: found, total: lines.filter(({ matches }) => matches).length };
}

/** The first of the segments that fit into `limit` bytes. */
export function fitting(segments: readonly Segment[], limit: number): Segment[] {
  let left = limit;
  return segments.filter(({ bytes }) => {
    left -= bytes.length;
    return left >= 0;
  });
}

/** Where the last `count` lines begin. */
export function tailFrom(segments: readonly Segment[], count: number): number | undefined {
  const last = segments.at(-1);
  if (!last) return undefined;
  let at = last.bytes.length;
  for (let n = 0; n < count && at > 0; n++) at = at < 2 ? 0 : last.bytes.lastIndexOf(newline, at - 2) + 1;
  return last.from + at;
}
