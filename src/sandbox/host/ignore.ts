/** Patterns in gitignore syntax over paths with "/" between segments. Matching takes time in proportion to pattern and path. */

export interface PathRules {
  /** What the last rule that fits says; undefined when none does. Parents are the caller's business. */
  says(path: readonly string[], isDir: boolean): boolean | undefined;
}

interface Rule {
  /** false for a pattern that begins with "!". */
  says: boolean;
  dirOnly: boolean;
  /** Segments; a rule without "/" within fits the last segment of any path. */
  anchored: boolean;
  segments: (Segment | "**")[];
}

type Token = { char: string } | { set: (char: string) => boolean } | "?" | "*";
type Segment = readonly Token[];

export function pathRules(patterns: readonly string[]): PathRules {
  const rules = patterns.flatMap((pattern) => parseRule(pattern) ?? []).reverse();
  return { says: (path, isDir) => rules.find((rule) => fits(rule, path, isDir))?.says };
}

function parseRule(line: string): Rule | undefined {
  let pattern = line.replace(/(?<!\\)[ \t\r]+$/, "");
  if (pattern === "" || pattern.startsWith("#")) return undefined;
  const says = !pattern.startsWith("!");
  if (!says) pattern = pattern.slice(1);
  const dirOnly = pattern.endsWith("/");
  if (dirOnly) pattern = pattern.slice(0, -1);
  const anchored = pattern.includes("/");
  const segments = pattern
    .replace(/^\//, "")
    .split("/")
    .map((segment) => (segment === "**" ? ("**" as const) : tokens(segment)));
  return pattern === "" ? undefined : { says, dirOnly, anchored, segments };
}

function fits(rule: Rule, path: readonly string[], isDir: boolean): boolean {
  if (rule.dirOnly && !isDir) return false;
  if (rule.anchored) return fitsPath(rule.segments, path);
  const [only] = rule.segments;
  return only === "**" || (only !== undefined && fitsSegment(only, path.at(-1) ?? ""));
}

/** `**` takes any number of segments, at the end at least one. Going back to the last `**` alone is enough. */
function fitsPath(segments: readonly (Segment | "**")[], path: readonly string[]): boolean {
  let at = 0;
  let s = 0;
  let retry: { s: number; at: number } | undefined;
  while (at < path.length) {
    const segment = segments[s];
    if (segment === "**") {
      if (s === segments.length - 1) return true;
      retry = { s, at };
      s++;
    } else if (segment !== undefined && fitsSegment(segment, path[at] ?? "")) {
      s++;
      at++;
    } else if (retry !== undefined) {
      retry.at++;
      at = retry.at;
      s = retry.s + 1;
    } else return false;
  }
  return s === segments.length;
}

function fitsSegment(pattern: Segment, name: string): boolean {
  const chars = [...name];
  let at = 0;
  let p = 0;
  let retry: { p: number; at: number } | undefined;
  while (at < chars.length) {
    const token = pattern[p];
    if (token === "*") {
      retry = { p, at };
      p++;
    } else if (token !== undefined && fitsChar(token, chars[at] ?? "")) {
      p++;
      at++;
    } else if (retry !== undefined) {
      retry.at++;
      at = retry.at;
      p = retry.p + 1;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

function fitsChar(token: Exclude<Token, "*">, char: string): boolean {
  if (token === "?") return true;
  return "char" in token ? token.char === char : token.set(char);
}

function tokens(text: string): Segment {
  const chars = [...text];
  const made: Token[] = [];
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i] ?? "";
    if (char === "*") {
      if (made.at(-1) !== "*") made.push("*");
    } else if (char === "?") made.push("?");
    else if (char === "\\" && i + 1 < chars.length) made.push({ char: chars[++i] ?? "" });
    else if (char === "[") {
      const close = chars.indexOf("]", i + (/[!^]/.test(chars[i + 1] ?? "") ? 3 : 2));
      if (close < 0) made.push({ char });
      else {
        made.push({ set: charSet(chars.slice(i + 1, close)) });
        i = close;
      }
    } else made.push({ char });
  }
  return made;
}

function charSet(chars: readonly string[]): (char: string) => boolean {
  const negated = chars[0] === "!" || chars[0] === "^";
  const list = negated ? chars.slice(1) : chars;
  const ranges: [string, string][] = [];
  for (let i = 0; i < list.length; i++) {
    const from = list[i] ?? "";
    const to = list[i + 2];
    if (list[i + 1] === "-" && to !== undefined) {
      ranges.push([from, to]);
      i += 2;
    } else ranges.push([from, from]);
  }
  return (char) => ranges.some(([from, to]) => char >= from && char <= to) !== negated;
}
