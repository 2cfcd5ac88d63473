const mostChars = 160;

/** A line of a file in a message: quoted, so that blanks count, without what does not show or moves the cursor, and cut. */
export function shownLine(line: string, most = mostChars): string {
  const bare = line.endsWith("\r") ? line.slice(0, -1) : line;
  const cut = bare.length > most ? `${bare.slice(0, most)}…` : bare;
  return JSON.stringify(cut).replace(
    /[\p{Cf}\p{Zl}\p{Zp}\p{Co}\u007f-\u009f]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
