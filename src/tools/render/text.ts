/** Building blocks of the readable answers. Foreign words never act here: names are made visible, bodies stand in fences. */

const invisible = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu;

function escaped(character: string): string {
  if (character === "\n") return "\\n";
  if (character === "\r") return "\\r";
  if (character === "\t") return "\\t";
  const code = character.codePointAt(0) ?? 0;
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** One line of foreign text: what does not show or moves the cursor becomes an escape, and it is cut at `max` characters. */
export function visible(text: string, max = 300): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  return cut.replace(invisible, escaped);
}

/** A name as it is when plain, else in quotes with escapes, so that `a\nb` and a name with a newline differ. */
export function name(text: string, max = 1024): string {
  if (text !== "" && text.trim() === text && text.length <= max && !/["\\]/.test(text) && text.search(invisible) === -1)
    return text;
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  return `"${cut.replace(/["\\]/g, "\\$&").replace(invisible, escaped)}"`;
}

/** Verbatim text between fences that no line of it can close. */
export function fenced(text: string): string {
  const mark = [..."`~"]
    .map((sign) => sign.repeat(Math.max(3, longestRun(text, sign) + 1)))
    .reduce((short, other) => (other.length < short.length ? other : short));
  return `${mark}\n${text}${text.endsWith("\n") || text === "" ? "" : "\n"}${mark}`;
}

/** Longest run of `sign` that begins a line. */
function longestRun(text: string, sign: string): number {
  let longest = 0;
  for (const [, run] of text.matchAll(sign === "`" ? /^[ \t]*(`{3,})/gm : /^[ \t]*(~{3,})/gm))
    longest = Math.max(longest, run?.length ?? 0);
  return longest;
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** `-` for what is not known. */
export const known = <T>(value: T | null | undefined, show: (value: T) => string): string =>
  value === null || value === undefined ? "-" : show(value);

export const time = (rfc3339: string): string => visible(rfc3339.replace(/\.\d+Z$/, "Z"), 40);

/** Aligned rows; the last column is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.min(64, Math.max(widths[i] ?? 0, cell.length));
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** A call the reader can make next, ready to send. */
export const toolCall = (tool: string, args: Record<string, unknown>): string =>
  `${tool} ${JSON.stringify(args).replace(invisible, (character) => character.split("").map(unicodeEscape).join(""))}`;

const unicodeEscape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** The given lines that say something. */
export const lines = (...parts: (string | undefined | false)[]): string =>
  parts.filter((part) => part !== undefined && part !== false && part !== "").join("\n");

export const notes = (list: readonly string[] | undefined): string =>
  (list ?? []).map((note) => `note: ${visible(note, 500)}`).join("\n");

export const pairs = (record: Record<string, string>): string =>
  Object.entries(record)
    .map(([key, value]) => `${name(key, 128)}=${name(value, 256)}`)
    .join(" ");
