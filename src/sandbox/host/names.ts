/**
 * Names of files are bytes. Here they are strings of one character a byte ("byte strings", Node's latin1), so that odd ones survive,
 * and become text only to be shown or matched.
 */

export const toBytes = (text: string): string => Buffer.from(text).toString("latin1");
export const toText = (bytes: string): string => Buffer.from(bytes, "latin1").toString();

const mostSegments = 256;
const mostSegmentBytes = 255;
const mostPathBytes = 4096;

/** Segments of a relative name in an archive, or why it may not be used. */
export function safeSegments(name: string): string[] | { why: string } {
  if (name.startsWith("/")) return { why: "absolute name" };
  if (name.length > mostPathBytes) return { why: "name too long" };
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  if (segments.includes("..")) return { why: "name with .." };
  if (name.includes("\0")) return { why: "name with NUL" };
  if (segments.length > mostSegments) return { why: "too many folders deep" };
  if (segments.some((segment) => segment.length > mostSegmentBytes)) return { why: "name too long" };
  return segments;
}

/**
 * Whether a link in a folder `depth` levels below the root leads to something below the root. `..` counts only at the beginning:
 * behind a name it may start from wherever a link of that name leads.
 */
export function linkStays(depth: number, target: string): boolean {
  if (target === "" || target.startsWith("/") || target.includes("\0")) return false;
  const segments = target.split("/").filter((segment) => segment !== "" && segment !== ".");
  const ups = segments.findIndex((segment) => segment !== "..");
  const leading = ups < 0 ? segments.length : ups;
  return leading <= depth && !segments.slice(leading).includes("..");
}

/** What was passed over, the first of it with names. */
export class Refusals {
  readonly list: { path: string; why: string }[] = [];
  total = 0;

  /** @param path byte string */
  add(path: string, why: string): void {
    this.total++;
    if (this.list.length < 200) this.list.push({ path: toText(path).slice(0, 1024), why });
  }
}
