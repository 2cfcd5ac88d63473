/** Bytes the value takes as JSON. */
const size = (value: unknown): number => Buffer.byteLength(JSON.stringify(value) ?? "");

/** Fields that name the event: small, and needed by every consumer. */
const kept: ReadonlySet<string> = new Set([
  "sandbox_id",
  "host",
  "tenant",
  "actor",
  "state",
  "request_id",
  "cause",
  "exec_id",
]);

/**
 * `data` with its largest fields shortened until it loses at least `excess` bytes; `truncated` names them. Texts keep their
 * start, lists and objects their first members, so that what is left has the shape it had.
 */
export function cutData(data: Record<string, unknown>, excess: number): Record<string, unknown> {
  const cut: Record<string, unknown> = { ...data };
  const truncated: string[] = [];
  const largest = Object.keys(data)
    .filter((key) => !kept.has(key))
    .map((key) => ({ key, bytes: size(data[key]) }))
    .sort((a, b) => b.bytes - a.bytes);

  let left = excess;
  for (const { key, bytes } of largest) {
    if (left <= 0) break;
    const note = size(key) + 20;
    cut[key] = shorten(data[key], Math.max(0, bytes - left - note));
    truncated.push(key);
    left -= bytes - size(cut[key]) - note;
  }
  return { ...cut, truncated };
}

/** The value with at most `room` bytes of JSON, as far as its type allows. */
function shorten(value: unknown, room: number): unknown {
  if (typeof value === "string") return shortenText(value, room);
  if (Array.isArray(value)) return value.slice(0, fitting(value, room));
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    return Object.fromEntries(entries.slice(0, fitting(entries, room)));
  }
  return value;
}

function shortenText(text: string, room: number): string {
  let length = Math.min(text.length, Math.max(0, room));
  while (length > 0 && size(text.slice(0, length)) > room) length = Math.floor(length * 0.75);
  // Half a surrogate pair is no character.
  return /[\ud800-\udbff]$/.test(text.slice(0, length)) ? text.slice(0, length - 1) : text.slice(0, length);
}

/** How many of the first members fit. */
function fitting(members: readonly unknown[], room: number): number {
  let used = 2;
  let count = 0;
  for (const member of members) {
    used += size(member) + 1;
    if (used > room) break;
    count += 1;
  }
  return count;
}
