/**
 * Hides what looks like a credential in a command before it is told to anyone. The guest has already replaced the values of the
 * sandbox's env; this catches what stood in the command itself. Commands may be hostile: every repetition that many places could
 * begin is bounded, so that a pattern takes time in proportion to the text.
 */

const pattern =
  (flags: string) =>
  (source: TemplateStringsArray, ...parts: string[]): RegExp =>
    new RegExp(String.raw(source, ...parts), flags);
const exact = pattern("gs");
const anyCase = pattern("gis");

/** Ends of the names of options and fields that hold a secret. */
const secret =
  "(?:passw(?:or)?d|passphrase|(?<![a-z])pass|token|secret|auth(?:orization)?|(?:api|access|secret|private|account)[-_]?key)";
/** The same of variables, anywhere in the name. */
const secretVariable = String.raw`(?:(?:passw(?:or)?d|token|secret|(?:api|access|private)_?key)\w{0,40}|(?<![a-z])pass|_pwd)`;

/** Goes on to the quote that was opened as `q`; a command that was cut has none. In a shell, '\'' is a quote within quotes. */
const quoted = String.raw`(?:'\\''|(?!\k<q>)(?:\\.|[^\\]))+`;
const bare = String.raw`(?:\\.|[^\s'"\\])+`;
const value = String.raw`(?:(?<q>\\?["'])${quoted}(?:\k<q>)?|${bare})`;

const headerOption = String.raw`(?:-H|--header[=\s])\s{0,9}`;
const headerName = String.raw`[\w-]{0,40}(?:key|token|secret|auth(?:orization|entication)?|cookie)(?![a-z])[\w-]{0,40}`;
const colon = String.raw`\s*:\s*(?:(?:bearer|basic|digest|token)\s+)?`;
/** The name before a password: no date's format, no option, no uid:gid, no git@host:path, no scheme of a URL. */
const user = String.raw`(?!\+|-|\d+:\d+|git@)[^\s'":]{0,200}:(?!//)`;

const rules: readonly [RegExp, string][] = [
  // A header in quotes is all that is quoted; a name of one word is a header's only where the option says so.
  [
    anyCase`(?<q>\\?["'])(?<name>(?:(?=\w{1,40}-)|(?<=${headerOption}\\?["']))${headerName}${colon})(?!\s*\k<q>)${quoted}`,
    "$<q>$<name>***",
  ],
  [anyCase`((?:${headerOption}${headerName}|authorization)${colon})${value}`, "$1***"],
  // "password": "x" of JSON, also within a string, and password = 'x' of programs.
  [anyCase`(${secret}\\?["']?\s*[:=]\s*)(?<q>\\?["'])${quoted}`, "$1$<q>***"],
  [anyCase`((?:^|[\s'"])--?(?!-?no-)[\w-]{0,40}?${secret}['"]?(?:=|,\s*|\s+))${value}`, "$1***"],
  [anyCase`(${secretVariable}=)${value}`, "$1***"],
  [anyCase`([?&](?:[\w-]{0,40}[-_])?(?:key|sig|signature)=)[^\s'"&#]+`, "$1***"],
  [
    exact`((?:^|\s)(?:-u\s*|--(?:proxy-)?user(?:=|\s+)))(?:(?<q>["'])(?<inner>${user})${quoted}|(?<outer>${user})${bare})`,
    "$1$<q>$<inner>$<outer>***",
  ],
  // -p may mean anything elsewhere, and after the name of a container even a port.
  [
    exact`((?:^|[\s;|&('"\x60]|bin/)(?:mysql|mariadb)[\w-]{0,20}\s(?:[^;|&\n]{0,400}?\s)?-p)(?![\d.]+:\d)${value}`,
    "$1***",
  ],
  [
    /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|npm_[A-Za-z0-9]{30,}|AIza[\w-]{30,}|hf_[A-Za-z0-9]{20,}|(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)/g,
    "***",
  ],
  // The same, cut before they were long enough.
  [/\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-|AKIA|npm_|AIza|hf_|eyJ)[\w.-]{0,200}(?=…$)/g, "***"],
];

/**
 * What stands between :// and host. People type "/" and "@" into passwords, which URLs do not allow, and paths may hold an "@" too:
 * it is the password's as long as no path has begun, or behind a colon that no port follows. A cut may have come before the "@".
 */
const userinfo = /^(?:[^\s'"/@:[]*:(?!\d{1,5}(?:[/?#…]|$))[^\s'"]*|[^\s'"/?#]*)(@|…$)/;

const withoutUserinfo = (text: string): string => {
  const [first = "", ...others] = text.split("://");
  return [first, ...others.map((rest) => rest.replace(userinfo, "***$1"))].join("://");
};

/** The text with `***` in the place of each secret. */
export const redact = (text: string): string =>
  rules.reduce((shown, [pattern, to]) => shown.replace(pattern, to), withoutUserinfo(text));

/** A command as events, records and lists show it: redacted, at most `max` characters. */
export function redactCommand(command: string, max = 256): string {
  const hidden = redact(cut(command, max * 8));
  return cut(hidden, max);
}

const cut = (text: string, max: number): string => (text.length > max ? `${text.slice(0, max - 1)}…` : text);
