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

/** Ends of the names of options and fields that hold a secret; `auth` is also a word of plain text. */
const plainSecret =
  "(?:passw(?:or)?d|passphrase|(?:(?<![a-z])|store|key|ssh)pass|token|secret|bearer|(?:api|access|secret|private|account|auth)[-_]?key)";
const secret = `(?:${plainSecret}|auth(?:orization)?)`;
/** The same of variables, anywhere in the name or at its end. */
const secretVariable = String.raw`(?:(?:passw(?:or)?d|passphrase|token|secret|(?<!application_)credential|(?:api|access|private|account|auth|session|master|signing|encryption)[-_]?key)\w{0,40}|(?:(?<![a-z])|ssh|db|my|root|user)(?:pass|pw)|(?<![a-z])(?:auth|cookie)|_pwd|_pat)`;

/** Goes on to the quote that was opened as `q`; a command that was cut has none. In a shell, '\'' is a quote within quotes. */
const quoted = String.raw`(?:'\\''|(?!\k<q>)(?:\\.|[^\\]))+`;
const bare = String.raw`(?:\\.|[^\s'"\\])+`;
const value = String.raw`(?:(?<q>\\?["'])${quoted}(?:\k<q>)?|${bare})`;
/** As a word of its own: no operator of the shell. */
const word = `(?![<>|&;])${value}`;

const headerOption = String.raw`(?:-H|--header[=\s])\s{0,9}`;
const headerName = String.raw`[\w-]{0,40}(?:key|token|secret|auth(?:orization|entication)?|cookie)(?![a-z])[\w-]{0,40}`;
const colon = String.raw`\s*:\s*(?:(?:bearer|basic|digest|token)\s+)?`;

const userOption = String.raw`(?:^|(?<!python[\d.]{0,5})\s)(?:-u\s*|-[sSkLfivN]{1,6}u\s+|-U\s*(?=["']?[^\s:%]{1,100}%)|--(?:proxy-)?user(?:=|\s+))`;
/** The name before a password: no date's format, no option, no uid:gid, no git@host:path, no scheme of a URL. */
const user = String.raw`(?!\+|-|\d+:\d+|git@|(?<same>[\w.-]{1,40}):\k<same>(?:[\s'"]|$))(?:[^\s'":%]{0,200}:(?!//)|[^\s'":%]{1,200}%)`;

/** Goes on in the same command of a shell. */
const on = String.raw`(?:\\.|[^;|&\n\\])`;
/** An option that holds a secret for some programs only. What follows after a space and a dash is another option: the program asks. */
const optionOf = (programs: RegExp, option: RegExp): [RegExp, string] => [
  exact`((?:^|[\s;|&('"\x60]|bin/)(?:${programs.source})\s(?:${on}{0,200}?[\s'"])?${option.source})(?!(?<=\s)-|mongodb)${value}`,
  "$1***",
];

/** What writes a secret to another's stdin. No second one may stand between them, so that each is read on from once. */
const echo = String.raw`\b(?:echo|printf)\b`;
/** What reads a secret from stdin. */
const reader = String.raw`(?:--[\w-]{0,20}(?:password|token|key|secret)-stdin|--with-token|\bsudo\s(?:-\w{1,9}\s){0,3}(?:-\w{0,9}S\b|--stdin)|\bsecrets?\s(?:set|put|create)\b|-fd[=\s]0|-pass(?:in|out)?\sstdin|\b(?:vault|docker|podman)\slogin\b|(?<=(?:^|[|;&\n]|sudo)\s{0,3})(?:\w{0,4}passwd|kinit)\b)`;
/** One that the cut may have kept from being seen. */
const cutReader = String.raw`(?:\s*(?:[\w-]{1,20}\s+){0,2}[\w-]{0,20}|${on}{0,60}?\slogin\s${on}{0,250})…$`;

/** What tokens begin with: those of letters and digits, and those with more. */
const plainToken = "(?:gh[pousr]_|npm_|hf_|gsk_|[sr]k_(?:live|test)_|whsec_|do[opr]_v1_|shp(?:at|ca|pa|ss)_)";
const token = String.raw`(?:github_pat_|dckr_pat_|gl(?:pat|rt|dt|ptt|cbt)-|sk-|xapp-|AIza|ya29\.|hv[sbr]\.|AGE-SECRET-KEY-|pypi-AgE)`;

const rules: readonly [RegExp, string][] = [
  [exact`(-----BEGIN [A-Z\d ]{0,40}PRIVATE KEY(?: BLOCK)?-----).*?(?=-----END |$)`, "$1***"],
  // A header in quotes is all that is quoted; a name of one word is a header's only where the option says so.
  [
    anyCase`(?<q>\\?["'])(?<name>(?:(?=\w{1,40}-)|(?<=${headerOption}\\?["']))${headerName}${colon})(?!\s*\k<q>)${quoted}`,
    "$<q>$<name>***",
  ],
  [anyCase`((?:${headerOption}${headerName}|authorization)${colon})${value}`, "$1***"],
  // "password": "x" of JSON, also within a string, password = 'x' and env["password"] = 'x' of programs.
  [anyCase`(${secret}\\?["']?\]?\s*(?::=?|=>?)\s*)(?<q>\\?["'])${quoted}`, "$1$<q>***"],
  // password: x of YAML and password = x of INI, at the beginning of a line or a text that is no message of a commit.
  [
    anyCase`((?:\n|\\n|\becho\s|(?<!-\w{0,5}m\s{0,2})["'])[ \t]{0,40}(?:-\s)?[\w.-]{0,40}?${plainSecret}(?::|\s=(?![ \t]+[\w.]{1,60}[([]))[ \t]+)(?:(?!\\n)[^\n'"])+`,
    "$1***",
  ],
  // An option or a variable that is in quotes itself; a script in quotes goes on after its first variable.
  [
    anyCase`((?<q>["'])(?:--?(?!-?no-)[\w-]{0,40}?${secret}|(?<=(?:-e|--env|--build-arg|\benv|\bexport|-var|--set)[\s=]["'])\w{0,40}?${secretVariable})=)(?!["'])${quoted}`,
    "$1***",
  ],
  [anyCase`((?:^|[\s'"])--?(?!-?no-|-?with-token)[\w-]{0,40}?${secret}['"]?(?:=|,\s*|\s+))${word}`, "$1***"],
  [anyCase`(${secretVariable}=)${value}`, "$1***"],
  [anyCase`(\b(?:setenv|set\s-\w{0,3}x\w{0,3})[ \t]+\w{0,40}?${secretVariable}[ \t]+)${word}`, "$1***"],
  // aws configure set aws_secret_access_key x, npm config set //registry/:_authToken x
  [
    anyCase`(\b(?:aws|npm|pnpm|yarn|git|pip3?|poetry|composer|gcloud|ngrok|glab)\s(?:${on}{0,60}?\s)?(?:config(?:ure)?|set)\s+(?:[^\s;|&]{1,60}\s+){0,4}?["']?[^\s'"=]{0,100}?${secret}(?:\.[\w.-]{1,60})?["']?\s+)${word}`,
    "$1***",
  ],
  [
    anyCase`(\b(?:identified\s+by|(?:with|encrypted|(?:user|role)\s+\S{1,60})\s+password)\s+)(?<q>\\?["'])${quoted}`,
    "$1$<q>***",
  ],
  [anyCase`([?&](?:[\w-]{0,40}[-_])?(?:key|sig|signature)=)[^\s'"&#]+`, "$1***"],
  [exact`(${userOption}(?<q>["'])${user})${quoted}`, "$1***"],
  [exact`(${userOption}(?:${user}|(?<p>["'])[^\s'":]{0,200}\k<p>:))${value}`, "$1***"],
  // -p may mean anything elsewhere, and after the name of a container even a port.
  optionOf(/(?:mysql|mariadb)[\w-]{0,20}/, /-p(?![\d.]+:\d)/),
  optionOf(/7z[arz]?|7zz|rar|unrar/, /-h?p/),
  optionOf(/mongo\w{0,10}|cqlsh|cypher-shell|user(?:add|mod)/, /-p\s*/),
  optionOf(
    /(?:docker|podman|nerdctl|buildah|skopeo|helm|oras|crane|oc|az|cf|ibmcloud)\s(?:[\w-]{1,20}\s){0,2}login/,
    /-p[=\s]*/,
  ),
  optionOf(/(?:redis|valkey|keydb)-cli|https?|xhs?/, /-a\s*/),
  optionOf(/(?:un)?zip|sqlcmd|bcp|ipmitool|mosquitto_\w{3}/, /-[a-zA-Z]{0,5}P\s*/),
  optionOf(/ldap\w{2,10}/, /-x?w\s*/),
  optionOf(/gh\ssecret\sset/, /(?:-b|--body)[=\s]*/),
  optionOf(/openssl/, /-[kK]\s+/),
  optionOf(/lftp/, /-u\s*[^\s,'"]{1,100},/),
  [exact`(\bsshpass\s+(?:-v\s+|-P\s*\S{1,60}\s+){0,2}["']?-p\s*)${value}`, "$1***"],
  [exact`(\b(?:vault|wandb)\s+login\s+(?:-\S+\s+){0,5})(?!-|\w+=\S)${word}`, "$1***"],
  [exact`(-pass(?:in|out)\s+)(?=["']?pass:)${value}`, "$1***"],
  [anyCase`(\blogin\s+\S{1,200}?(?:\s|\\n)+password(?:\s|\\n)+)${word}`, "$1***"],
  [
    exact`((?:^|\s)(?:-[sSkLfivN]{0,6}b\s*|--cookie(?:=|\s+)))(?!(?:dc|ou|cn|o)=)(?=["']?[\w.%-]{1,100}=)${value}`,
    "$1***",
  ],
  // echo x | docker login --password-stdin, gh auth login --with-token <<< x
  [
    exact`(${echo}\s)(?:\\.|'(?:(?!${echo})[^'])*'|"(?:(?!${echo})(?:\\.|[^"\\]))*"|(?!${echo})[^'"\\|;&\n])+(?=(?:\|${on}{0,200}){0,2}?\|(?:${on}{0,200}?${reader}|${cutReader}))`,
    "$1*** ",
  ],
  [exact`(${reader}(?:\\.|[^|;&\n<\\]){0,200}<<<\s*)${value}`, "$1***"],
  [
    exact`\b(?:${plainToken}[A-Za-z\d]{16,}|${token}[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|A[KS]IA[A-Z\d]{16}|(?:bot)?\d{8,10}:AA[\w-]{30,}|(?<=hooks\.slack\.com/services/)[\w/]+|SG\.[\w-]{16,}\.[\w-]{16,}|S[AUOCNX][A-Z2-7]{56}\b|(?<!-)eyJ[\w-]{10,}\.[\w-]{10,}\.[\w.-]+)`,
    "***",
  ],
  // The same, cut before they were long enough.
  [exact`\b(?:${plainToken}|${token}|xox[abeoprs]-|A[KS]IA|SG\.|pypi-|eyJ)[\w.-]{0,200}(?=…$)`, "***"],
];

/**
 * What stands between :// and host. People type "/" and "@" into passwords, which URLs do not allow, and paths may hold an "@" too:
 * it is the password's as long as no path has begun, or behind a colon that no port follows. A cut may have come before the "@".
 */
const password = String.raw`[^\s'"/@:[]*:(?!\d{1,5}(?:[/?#…]|$))[^\s'"]*`;
const userinfo = exact`^(?:${password}|[^\s'"/?#]*)(@|…$)`;
/** A name alone is a token elsewhere, and for these just who logs in. */
const nameOnly = /(?:ssh|sftp|rsync)$/;
const userinfoOfLogin = exact`^${password}(@|…$)`;

const withoutUserinfo = (text: string): string =>
  text
    .split("://")
    .map((rest, i, all) => {
      if (i === 0) return rest;
      return rest.replace(nameOnly.test(all[i - 1]?.slice(-9) ?? "") ? userinfoOfLogin : userinfo, "***$1");
    })
    .join("://");

/** The text with `***` in the place of each secret. */
export const redact = (text: string): string =>
  rules.reduce((shown, [pattern, to]) => shown.replace(pattern, to), withoutUserinfo(text));

/** A command as events, records and lists show it: redacted, at most `max` characters. */
export function redactCommand(command: string, max = 256): string {
  const hidden = redact(cut(command, max * 8));
  return cut(hidden, max);
}

const cut = (text: string, max: number): string => (text.length > max ? `${text.slice(0, max - 1)}…` : text);
