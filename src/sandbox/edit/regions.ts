import type { Replacement } from "./match.ts";

/** `[at, end)` of the text after is what `[from, to)` was in the text before. */
export interface Region {
  at: number;
  end: number;
  from: number;
  to: number;
}

/**
 * Where a text differs from the first one, once more replacements were made in it. Both lists are in order and free of overlaps;
 * what touches becomes one region.
 */
export function compose(regions: readonly Region[], made: readonly Replacement[]): Region[] {
  const composed: Region[] = [];
  /** How much longer the text was than the first one, and is than the one before, up to here. */
  let grown = 0;
  let shift = 0;
  for (let r = 0, m = 0; r < regions.length || m < made.length; ) {
    const low = Math.min(regions[r]?.at ?? Number.POSITIVE_INFINITY, made[m]?.start ?? Number.POSITIVE_INFINITY);
    let high = low;
    const at = low + shift;
    const from = low - grown;
    for (;;) {
      const region = regions[r];
      const replacement = made[m];
      if (region !== undefined && region.at <= high) {
        high = Math.max(high, region.end);
        grown += region.end - region.at - (region.to - region.from);
        r++;
      } else if (replacement !== undefined && replacement.start <= high) {
        high = Math.max(high, replacement.end);
        shift += replacement.length - (replacement.end - replacement.start);
        m++;
      } else break;
    }
    composed.push({ at, end: high + shift, from, to: high - grown });
  }
  return composed;
}
