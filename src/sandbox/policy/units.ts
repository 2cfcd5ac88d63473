/**
 * Sizes and durations as operators write them. Sizes are read as `RAMInBytes` of github.com/docker/go-units v0.5.0 reads them
 * (binary multiples; `k`, `m`, `g`, `t`, `p`, each with an optional `b` or `ib`, in any case), durations as Go's
 * `time.ParseDuration` (`1h30m`, `1.5h`, `90s`). Undefined: not one.
 */

const multiples: Record<string, number> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50 };

export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d*)?|\.\d+) ?(?:b|([kmgtp])(?:i?b)?)?$/i.exec(text);
  if (match?.[1] === undefined) return undefined;
  const bytes = Math.trunc(Number(match[1]) * (multiples[match[2]?.toLowerCase() ?? ""] ?? 1));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const unitMs: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;

/** Milliseconds. Go's range ends at some 292 years; ours where numbers stop being exact. */
export function parseDuration(text: string): number | undefined {
  const [, sign, rest = ""] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  if (rest === "0") return 0;
  if (rest === "" || sign === "-") return undefined;
  let ms = 0;
  part.lastIndex = 0;
  while (part.lastIndex < rest.length) {
    const match = part.exec(rest);
    if (match === null) return undefined;
    ms += Number(match[1]) * (unitMs[match[2] ?? ""] ?? Number.NaN);
  }
  return ms <= Number.MAX_SAFE_INTEGER ? ms : undefined;
}
