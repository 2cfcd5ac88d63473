/** The part of a text that most resembles what was looked for, to show to whoever remembered it wrongly. */

export interface Closest {
  /** Line it begins at, from 1. */
  first: number;
  lines: string[];
  hint?: string;
}

const mostLines = 12;
/** Characters looked at of a text, of a line, and of what is looked for: the search is bounded, whatever an agent sends. */
const mostText = 4 * 2 ** 20;
const mostLine = 240;
const candidates = 5;
const alike = 0.45;

export function closestText(text: string, old: string): Closest | undefined {
  const wanted = trimmed(split(old)).slice(0, mostLines);
  const lines = split(text.slice(0, mostText));
  const anchorAt = wanted.reduce((best, line, i) => (weight(line) > weight(wanted[best] ?? "") ? i : best), 0);
  const anchor = wanted[anchorAt];
  if (anchor === undefined || weight(anchor) === 0) return undefined;
  const likeAnchor = likeness(anchor);
  const starts = lines
    .map((line, i) => ({ start: i - anchorAt, score: likeAnchor(line) }))
    .filter(({ score }) => score > alike / 2)
    .sort((a, b) => b.score - a.score)
    .slice(0, candidates)
    .map(({ start }) => Math.max(0, start));
  const likeAll = wanted.map(likeness);
  const score = (start: number): number =>
    likeAll.reduce((sum, like, i) => sum + like(lines[start + i] ?? ""), 0) / likeAll.length;
  const [best] = starts.map((start) => ({ start, score: score(start) })).sort((a, b) => b.score - a.score);
  if (best === undefined || best.score < alike) return undefined;
  const shown = lines.slice(best.start, best.start + wanted.length);
  const same = shown.map(squeezed).join("\n") === wanted.map(squeezed).join("\n");
  const hint = same ? "it differs in blanks only" : `${Math.floor(best.score * 100)} % alike`;
  return { first: best.start + 1, lines: shown, hint };
}

/** Lines with the blank ones at either end left out. */
function trimmed(lines: string[]): string[] {
  const first = lines.findIndex((line) => line.trim() !== "");
  const last = lines.findLastIndex((line) => line.trim() !== "");
  return first < 0 ? [] : lines.slice(first, last + 1);
}

const split = (text: string): string[] => text.split(/\r?\n/);
const squeezed = (line: string): string => line.replace(/\s+/g, "");
const weight = (line: string): number => Math.min(mostLine, squeezed(line.slice(0, mostLine)).length);

/** How alike a line is to this one, 0 to 1: shared pairs of neighbouring characters, blanks left out (Dice's coefficient). */
function likeness(line: string): (other: string) => number {
  const mine = squeezed(line.slice(0, mostLine));
  const index = new Map<number, number>();
  const counts: number[] = [];
  for (const pair of pairs(mine)) {
    const at = index.get(pair) ?? index.size;
    index.set(pair, at);
    counts[at] = (counts[at] ?? 0) + 1;
  }
  const total = Math.max(0, mine.length - 1);
  return (other) => {
    const theirs = squeezed(other.slice(0, mostLine));
    if (theirs === mine) return 1;
    if (theirs.length < 2 || total === 0) return 0;
    // Lines of very different length cannot share enough.
    if (2 * Math.min(theirs.length, mine.length) < 0.3 * (theirs.length + mine.length)) return 0;
    const left = counts.slice();
    let shared = 0;
    for (const pair of pairs(theirs)) {
      const at = index.get(pair);
      if (at === undefined || (left[at] ?? 0) === 0) continue;
      left[at] = (left[at] ?? 0) - 1;
      shared++;
    }
    return (2 * shared) / (total + theirs.length - 1);
  };
}

function* pairs(text: string): Generator<number> {
  for (let i = 1; i < text.length; i++) yield text.charCodeAt(i - 1) * 65_536 + text.charCodeAt(i);
}
