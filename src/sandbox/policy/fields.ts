import { z } from "zod";
import { parseDuration, parseSize } from "./units.ts";

/** Building blocks of the policy file: numbers in the unit their name says, or words that carry a unit of their own. */

const mib = 2 ** 20;

interface Range {
  min: number;
  max: number;
}

/** Mebibytes: 512, or "512m", "2g", "1.5GiB". */
export const megabytes = (range: Range) =>
  measured(range, "MiB", 'a size like "512m" or "2g"', (text) => {
    const bytes = parseSize(text);
    return bytes === undefined ? undefined : bytes / mib;
  });

/** Seconds: 600, or "90s", "1h30m". */
export const seconds = (range: Range) =>
  measured(range, "seconds", 'a duration like "90s" or "1h30m"', (text) => {
    const ms = parseDuration(text);
    return ms === undefined ? undefined : ms / 1_000;
  });

/** A count, or a size in bytes. */
export const countOrSize = (range: Range) => measured(range, "", 'a size like "64m"', parseSize);

function measured({ min, max }: Range, unit: string, words: string, read: (text: string) => number | undefined) {
  const numbers = `a whole number${unit === "" ? "" : ` of ${unit}`} from ${min} to ${max}`;
  const accepted = `must be ${numbers}, or ${words} of that range`;
  return z
    .union([z.number(), z.string()], { error: () => accepted })
    .transform((given, context) => {
      const value = typeof given === "number" ? given : read(given.trim());
      if (value !== undefined && Number.isInteger(value) && value >= min && value <= max) return value;
      context.addIssue(accepted);
      return z.NEVER;
    })
    .meta({ description: `${numbers[0]?.toUpperCase()}${numbers.slice(1)}, or ${words}.` });
}

const noControl = /^[^\p{Cc}]*$/u;

/** One line of text without control characters. */
export const line = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(noControl, { error: () => "must be one line without control characters" });

/** An absolute path that is written in one way only. */
export const absolutePath = z
  .string()
  .max(4096)
  .regex(/^\/$|^(?:\/(?!\.{1,2}(?:\/|$))[^/\p{Cc}]+)+$/u, {
    error: () => "must be an absolute path without `.`, `..`, `//` or a `/` at the end",
  });
