import type { Region } from "./regions.ts";

/** A unified diff of the places where two texts differ, as much of it as fits. */

const contextLines = 3;
const mostBytes = 4096;
const mostLine = 400;

/** Whole lines of both texts, `[from, to)` before and `[at, end)` after. */
interface Change {
  from: number;
  to: number;
  at: number;
  end: number;
}

/** Changes so near to each other that their contexts meet. */
type Hunk = [Change, ...Change[]];

export function unifiedDiff(before: string, after: string, regions: readonly Region[]): string {
  const hunks = toHunks(before, after, regions);
  const parts: string[] = [];
  let bytes = 0;
  const lineOf = { before: lineCounter(before), after: lineCounter(after) };
  for (const [i, hunk] of hunks.entries()) {
    const text = hunkText(before, after, hunk, lineOf);
    bytes += Buffer.byteLength(text);
    const left = hunks.length - i;
    if (bytes > mostBytes - 64) {
      const room = mostBytes - 64 - (bytes - Buffer.byteLength(text));
      if (i === 0) parts.push(cutLines(text, room));
      parts.push(i === 0 ? "… the rest is left out\n" : `… ${left} more ${left === 1 ? "place" : "places"} left out\n`);
      break;
    }
    parts.push(text);
  }
  return parts.join("");
}

function toHunks(before: string, after: string, regions: readonly Region[]): Hunk[] {
  const hunks: Hunk[] = [];
  for (const region of regions) {
    if (before.slice(region.from, region.to) === after.slice(region.at, region.end)) continue;
    const back = region.from === 0 ? 0 : region.from - (before.lastIndexOf("\n", region.from - 1) + 1);
    const onward = restOfLine(before, region.to, after, region.end);
    const change = {
      from: region.from - back,
      to: region.to + onward,
      at: region.at - back,
      end: region.end + onward,
    };
    const hunk = hunks.at(-1);
    const last = hunk?.at(-1);
    if (hunk === undefined || last === undefined) hunks.push([change]);
    else if (change.from < last.to) {
      // In the same line: where that ends in the text after, only the later one knows.
      last.to = change.to;
      last.end = change.end;
    } else if (linesBetween(before, last.to, change.from) <= 2 * contextLines) hunk.push(change);
    else hunks.push([change]);
  }
  return hunks;
}

/** Characters to the end of the line that both texts share from here; none where both are at the start of a line. */
function restOfLine(before: string, to: number, after: string, end: number): number {
  const fresh = (text: string, at: number): boolean => at === 0 || text[at - 1] === "\n";
  if (fresh(before, to) && fresh(after, end)) return 0;
  const newline = before.indexOf("\n", to);
  return (newline < 0 ? before.length : newline + 1) - to;
}

function linesBetween(text: string, from: number, to: number): number {
  let count = 0;
  for (
    let at = text.indexOf("\n", from);
    at >= 0 && at < to && count <= 2 * contextLines;
    at = text.indexOf("\n", at + 1)
  )
    count++;
  return count;
}

/** Counts lines up to an offset; offsets must rise. */
function lineCounter(text: string): (offset: number) => number {
  let line = 1;
  let at = 0;
  return (offset) => {
    for (let next = text.indexOf("\n", at); next >= 0 && next < offset; next = text.indexOf("\n", at)) {
      line++;
      at = next + 1;
    }
    return line;
  };
}

function hunkText(
  before: string,
  after: string,
  hunk: Hunk,
  lineOf: { before: (offset: number) => number; after: (offset: number) => number },
): string {
  const [first] = hunk;
  let start = first.from;
  for (let i = 0; i < contextLines && start > 0; i++) start = start === 1 ? 0 : before.lastIndexOf("\n", start - 2) + 1;
  const body: string[] = [];
  let at = start;
  for (const change of hunk) {
    body.push(...kept(before.slice(at, change.from)));
    body.push(...changed(toLines(before.slice(change.from, change.to)), toLines(after.slice(change.at, change.end))));
    at = change.to;
  }
  let stop = at;
  for (let i = 0; i < contextLines && stop < before.length; i++) {
    const newline = before.indexOf("\n", stop);
    stop = newline < 0 ? before.length : newline + 1;
  }
  body.push(...kept(before.slice(at, stop)));
  const old = body.filter((line) => !line.startsWith("+")).length;
  const now = body.filter((line) => !line.startsWith("-")).length;
  const oldAt = lineOf.before(start) - (old === 0 ? 1 : 0);
  const nowAt = lineOf.after(first.at - (first.from - start)) - (now === 0 ? 1 : 0);
  return `${[`@@ -${oldAt},${old} +${nowAt},${now} @@`, ...body].map(shown).join("\n")}\n`;
}

const kept = (text: string): string[] => toLines(text).map((line) => ` ${line}`);

/** Lines taken out, then lines put in; what is the same at either end stays. */
function changed(removed: readonly string[], added: readonly string[]): string[] {
  let head = 0;
  while (head < removed.length && head < added.length && removed[head] === added[head]) head++;
  let tail = 0;
  const most = Math.min(removed.length, added.length) - head;
  while (tail < most && removed.at(-1 - tail) === added.at(-1 - tail)) tail++;
  const same = (line: string): string => ` ${line}`;
  return [
    ...removed.slice(0, head).map(same),
    ...removed.slice(head, removed.length - tail).map((line) => `-${line}`),
    ...added.slice(head, added.length - tail).map((line) => `+${line}`),
    ...removed.slice(removed.length - tail).map(same),
  ];
}

/** Lines without their ends; a last one without "\n" says so. */
function toLines(text: string): string[] {
  if (text === "") return [];
  const lines = text.split("\n");
  const last = lines.pop() ?? "";
  return last === "" ? lines : [...lines, `${last}\n\\ No newline at end of file`];
}

function shown(line: string): string {
  const bare = line.replace(/\r(?=\n|$)/, "");
  return bare.length > mostLine ? `${bare.slice(0, mostLine)}…` : bare;
}

/** Whole lines of a text, as many as fit. */
function cutLines(text: string, room: number): string {
  let bytes = 0;
  const kept: string[] = [];
  for (const line of text.split("\n")) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > room) break;
    kept.push(`${line}\n`);
  }
  return kept.join("");
}
