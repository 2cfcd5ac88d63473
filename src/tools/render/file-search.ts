import type { FileSearchResult } from "../../sandbox/views.ts";
import { fenced, lines, name, notes } from "./text.ts";

type Match = FileSearchResult["matches"][number];

/** Matches by file, as grep shows them: `12:` a match, `11-` a line around one. */
export function fileSearchText(result: FileSearchResult): string {
  const { matches, omitted, files_searched } = result;
  const files = new Map<string, Match[]>();
  for (const match of matches) files.set(match.path, [...(files.get(match.path) ?? []), match]);
  return lines(
    `${matches.length} ${matches.length === 1 ? "match" : "matches"} in ${files.size} of ${files_searched} files searched`,
    ...[...files].map(([path, found]) => `${name(path, 4096)}\n${fenced(found.map(shown).join("\n"))}`),
    omitted > 0 && `${omitted >= 10_000 ? "10000 or more" : omitted} more left out: narrow pattern, path or glob`,
    notes(result.notes),
  );
}

function shown({ line, text, before = [], after = [] }: Match): string {
  return [
    ...before.map((one, i) => `${line - before.length + i}- ${one}`),
    `${line}: ${text}`,
    ...after.map((one, i) => `${line + 1 + i}- ${one}`),
  ].join("\n");
}
