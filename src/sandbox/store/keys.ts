import { createHash } from "node:crypto";

/**
 * Keys of the store: ASCII, bounded, ordered as text. Parts that come from outside are kept as they are when harmless and
 * hashed otherwise, so that no name is too long for a key and no two names meet in one.
 */
export function part(text: string): string {
  return /^[\w.-]{1,128}$/.test(text) ? text : `#${createHash("sha256").update(text).digest("hex")}`;
}

export const key = (...parts: string[]): string => parts.map(part).join("/");

/** A number as 16 digits, so that text order is number order. */
export const digits = (n: number): string => String(Math.max(0, Math.floor(n))).padStart(16, "0");

/** Times hold colons, which {@link part} would hash away; ours are RFC 3339 in UTC with milliseconds and sort as text. */
export const timeKey = (time: string, id: string): string =>
  `${time.replace(/[^\w.:-]/g, "_").slice(0, 40)}/${part(id)}`;

/** Sorts after every key that starts with `prefix/`. */
export const endOf = (prefix: string): string => `${prefix}/~`;

/** Place of a sandbox in lists, newest last; `beforeKey` of Store.sandboxes. */
export const listKey = (record: { created_at: string; sandbox_id: string }): string =>
  timeKey(record.created_at, record.sandbox_id);
