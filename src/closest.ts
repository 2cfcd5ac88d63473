/** The known name that a wrong one most likely meant; undefined when none is near. */
export function closest(wrong: string, known: readonly string[]): string | undefined {
  const asked = wrong.slice(0, 64).toLowerCase();
  const ranked = known
    .map((name) => ({ name, far: distance(asked, name.toLowerCase()) }))
    .sort((a, b) => a.far - b.far);
  const best = ranked[0];
  if (best === undefined || asked.length === 0) return undefined;
  const near = best.far <= Math.max(2, Math.floor(best.name.length / 3));
  return near ? best.name : known.find((name) => name.startsWith(asked) || asked.startsWith(name));
}

/** Levenshtein distance, one row at a time. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
