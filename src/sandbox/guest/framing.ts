import type { z } from "zod";
import { quoted } from "../../errors.ts";
import { unavailable } from "./failures.ts";

export const framedType = "application/vnd.chorus.framed";

/** Most a header line may have, newline included. */
export const maxHeaderBytes = 1024 * 1024;

/** Parses JSON of the guest against a schema; anything else is GUEST_UNAVAILABLE. */
export function parseJson<S extends z.ZodType>(what: string, schema: S, bytes: Buffer): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch (cause) {
    throw nonsense(what, "it is no JSON", cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue === undefined ? "" : ` at ${quoted(issue.path.map(String).join("."), 100)}`;
  throw nonsense(what, `it does not fit the protocol${where}`, parsed.error);
}

export function nonsense(what: string, why: string, cause?: unknown) {
  return unavailable(`The sandbox's guest answered ${what} in a way that makes no sense: ${why}.`, { cause });
}

/** Splits a framed answer into its header and what follows. The bytes are a view of the answer, not a copy. */
export function unframe<S extends z.ZodType>(
  what: string,
  schema: S,
  answer: Buffer,
): { header: z.infer<S>; bytes: Buffer } {
  const newline = answer.indexOf(0x0a);
  if (newline < 0 || newline >= maxHeaderBytes) throw nonsense(what, "its header does not end");
  return { header: parseJson(what, schema, answer.subarray(0, newline)), bytes: answer.subarray(newline + 1) };
}

/** A framed body in pieces; the contents are not copied. */
export function frame(header: unknown, contents: readonly Buffer[]): Buffer[] {
  return [Buffer.from(`${JSON.stringify(header)}\n`), ...contents];
}
