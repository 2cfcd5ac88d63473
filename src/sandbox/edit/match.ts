/** Where a string stands in a text, whichever line ends the text has. */

export interface Place {
  start: number;
  end: number;
}

/** A place and the length of what it becomes. */
export interface Replacement extends Place {
  length: number;
}

export const mostMatches = 1_000_000;

const loneNewline = /(?<!\r)\n/;

/** Places of `old`, from the first on, never overlapping, {@link mostMatches} and one at most. Its "\n" stands for "\r\n" as well; one with "\r" is meant to the letter. */
export function matches(text: string, old: string): Place[] {
  if (!old.includes("\n") || old.includes("\r") || !text.includes("\r\n")) return exact(text, old);
  if (!loneNewline.test(text)) return exact(text, old.replaceAll("\n", "\r\n"));
  return mixed(text, old);
}

function exact(text: string, old: string): Place[] {
  const found: Place[] = [];
  for (let at = text.indexOf(old); at >= 0 && found.length <= mostMatches; at = text.indexOf(old, at + old.length)) {
    found.push({ start: at, end: at + old.length });
  }
  return found;
}

/** In a text with line ends of both kinds: looked for without "\r", then counted back to where it really stands. */
function mixed(text: string, old: string): Place[] {
  const removed: number[] = [];
  const pieces = text.split("\r\n");
  let length = 0;
  for (const piece of pieces.slice(0, -1)) {
    length += piece.length;
    removed.push(length);
    length += 1;
  }
  let before = 0;
  const real = (at: number): number => {
    while (before < removed.length && (removed[before] ?? 0) < at) before++;
    return at + before;
  };
  return exact(pieces.join("\n"), old).map(({ start, end }) => ({ start: real(start), end: real(end) }));
}

/** Gives `put` the line ends of where it is put; one that has "\r" itself is meant to the letter. To be asked from first to last. */
export function lineEndsFor(put: string, old: string, text: string): (start: number) => string {
  const toTheLetter = !put.includes("\n") || put.includes("\r") || old.includes("\r");
  if (toTheLetter || !text.includes("\r\n")) return () => put;
  const withReturns = put.replaceAll("\n", "\r\n");
  let newline = text.indexOf("\n");
  const last = text.lastIndexOf("\n");
  return (start) => {
    while (newline < start && newline < last) newline = text.indexOf("\n", newline + 1);
    return text[newline - 1] === "\r" ? withReturns : put;
  };
}
