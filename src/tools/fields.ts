import { z } from "zod";

/** Arguments that several tools share, with their bounds, defaults and words. */

export const sandboxId = z.string().min(1).max(128).describe("Id (sb_…) or name.");
export const execId = z.string().min(1).max(64).describe("Id (ex_…) from exec_run or exec_list.");
export const filePath = z.string().min(1).max(4096).describe("Absolute, or relative to the workdir.");

/** Seconds a call may wait. 60 s is where both official clients give up. */
export const waitS = (byDefault: number, what: string) =>
  z.number().min(0).max(50).default(byDefault).describe(`${what} 0–50, default ${byDefault}.`);

export const ttySize = z.int().min(1).max(4096);

export const until = z
  .enum(["exit", "output"])
  .default("exit")
  .describe("What ends the wait: its exit, or any output. Default exit.");

export const untilMatch = z
  .string()
  .min(1)
  .max(1024)
  .optional()
  .describe("RE2: a line that matches ends the wait too.");

export const maxOutputBytes = z
  .int()
  .min(256)
  .max(49_152)
  .default(16_384)
  .describe("Most output in this answer, both streams. 256–49152, default 16384.");

export const labels = z.record(z.string(), z.string());
export const patch = z.record(z.string(), z.string().nullable());

export const cpus = z.number().min(0.05).max(1024);
export const memoryMb = z.int().min(16).max(1_048_576);
export const pids = z.int().min(64).max(32_768);
export const ttlS = z.int().min(1).max(2_592_000);

export const ifMatch = z.string().min(1).max(128).optional().describe("etag it must still have. Default any.");

export const hostPath = z.string().min(1).max(4096).describe("Absolute.");
const patterns = z.array(z.string().min(1).max(1024)).max(200).optional();
export const include = patterns.describe("Only these, gitignore syntax. Default all.");
export const exclude = patterns.describe("Not these, gitignore syntax. Default none.");

export const cursor = z.string().min(1).max(512).describe("next_cursor of the answer before. Default: from the first.");

export const limit = (most: number, byDefault: number) =>
  z.int().min(1).max(most).default(byDefault).describe(`1–${most}, default ${byDefault}.`);
