/**
 * Hides what looks like a credential in a command before it is told to anyone. The guest has already replaced the values of the
 * sandbox's env; this catches what stood in the command itself. Forms: credentials in URLs (RFC 3986 userinfo), Authorization
 * headers, `--password x`-style options, NAME_TOKEN=x assignments, and the published prefixes of well-known tokens.
 */
const rules: readonly [RegExp, string][] = [
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@:'"]*:[^\s/@'"]+@/gi, "$1***@"],
  [/\b((?:proxy-)?authorization\s*:\s*(?:bearer|basic|token)\s+)[^\s'"]+/gi, "$1***"],
  [
    /((?:^|\s)--?(?:password|passwd|token|secret|api[-_]?key|access[-_]?key|auth)(?:=|\s+))(?:"[^"]*"|'[^']*'|[^\s'"]+)/gi,
    "$1***",
  ],
  [
    /\b([A-Z0-9_]*(?:PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_?KEY)[A-Z0-9_]*=)(?:"[^"]*"|'[^']*'|[^\s'"]+)/gi,
    "$1***",
  ],
  [
    /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|npm_[A-Za-z0-9]{30,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)/g,
    "***",
  ],
];

/** A command as events, records and lists show it: redacted, on one line, at most `max` characters. */
export function redactCommand(command: string, max = 256): string {
  // Cut before matching as well: the patterns then cost a fixed amount whatever was sent.
  const bounded = command.length > max * 8 ? command.slice(0, max * 8) : command;
  const hidden = rules.reduce((text, [pattern, to]) => text.replace(pattern, to), bounded);
  return hidden.length > max ? `${hidden.slice(0, max - 1)}…` : hidden;
}
