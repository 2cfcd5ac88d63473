import { SandboxError } from "../../errors.ts";
import { closestText } from "./closest.ts";
import { lineEndsFor, matches, mostMatches, type Replacement } from "./match.ts";
import { compose, type Region } from "./regions.ts";
import { shownLine } from "./shown.ts";

/** Pure: what a list of edits makes of a text, or why not. */

export interface Edit {
  old_string: string;
  new_string: string;
  replace_all?: boolean | undefined;
}

export interface Plan {
  text: string;
  replacements: number;
  /** Where the texts before and after differ, in order. */
  regions: Region[];
}

const linesShown = 20;

/**
 * Applies the edits in order, each to what the ones before made. All or nothing: EDIT_NOT_APPLIED names the edit and why.
 * @param most length that no text on the way may exceed
 */
export function planEdits(before: string, edits: readonly Edit[], most: number): Plan {
  let text = before;
  let regions: Region[] = [];
  let replacements = 0;
  for (const [index, edit] of edits.entries()) {
    const refuse = (why: string, next?: string): never => {
      throw new SandboxError("EDIT_NOT_APPLIED", `edits[${index}]: ${why} Nothing was changed.`, next ? { next } : {});
    };
    if (edit.old_string === "") refuse("old_string is empty.", "Use file_write for a whole file.");
    if (edit.old_string === edit.new_string) {
      refuse(
        "old_string and new_string are the same.",
        "Leave this edit out, or say in new_string what shall be there.",
      );
    }
    const found = matches(text, edit.old_string);
    if (found.length === 0) refuse(notFound(text, before, edit.old_string));
    if (found.length > 1 && edit.replace_all !== true) {
      refuse(
        `old_string is found ${found.length} times:\n${places(text, found)}\n`,
        "Give more of the text around the one that is meant, or replace_all: true.",
      );
    }
    replacements += found.length;
    if (replacements > mostMatches) throw tooMuch(index, `makes more than ${mostMatches} replacements`);
    const putAt = lineEndsFor(edit.new_string, edit.old_string, text);
    const parts: string[] = [];
    const made: Replacement[] = [];
    let at = 0;
    let length = text.length;
    for (const { start, end } of found) {
      const put = putAt(start);
      length += put.length - (end - start);
      if (length > most) throw tooMuch(index, `makes the file longer than ${most} bytes`);
      parts.push(text.slice(at, start), put);
      made.push({ start, end, length: put.length });
      at = end;
    }
    parts.push(text.slice(at));
    text = parts.join("");
    regions = compose(regions, made);
  }
  return { text, replacements, regions };
}

const tooMuch = (index: number, why: string): SandboxError =>
  new SandboxError("LIMIT_EXCEEDED", `edits[${index}] ${why}. Nothing was changed.`, {
    next: "Change the file with a program in the sandbox through exec_run.",
  });

function notFound(text: string, before: string, old: string): string {
  const gone = text !== before && matches(before, old).length > 0;
  const why = gone ? "an edit before it changed the text it looks for." : "old_string is not in the file.";
  const near = closestText(text, old);
  if (near === undefined) return `${why} Nothing in the file resembles it.`;
  const shown = near.lines.map((line, i) => `  ${near.first + i}: ${shownLine(line)}`);
  const last = near.first + near.lines.length - 1;
  const where = near.lines.length === 1 ? `line ${near.first}` : `lines ${near.first}–${last}`;
  return `${why} Closest is ${where}${near.hint === undefined ? "" : ` (${near.hint})`}:\n${shown.join("\n")}\n`;
}

/** The lines that places begin in, with their numbers. */
function places(text: string, found: readonly { start: number }[]): string {
  let line = 1;
  let at = 0;
  const shown = found.slice(0, linesShown).map(({ start }) => {
    for (let next = text.indexOf("\n", at); next >= 0 && next < start; next = text.indexOf("\n", at)) {
      line++;
      at = next + 1;
    }
    const end = text.indexOf("\n", at);
    return `  ${line}: ${shownLine(text.slice(at, end < 0 ? undefined : end))}`;
  });
  const more = found.length - shown.length;
  return [...new Set(shown), ...(more > 0 ? [`  and ${more} more`] : [])].join("\n");
}
