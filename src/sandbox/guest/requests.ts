import type { Question } from "./exchange.ts";

const kib = 1024;

/** Longest answers taken, by what their schemas allow. */
export const cap = {
  small: 16 * kib,
  medium: 256 * kib,
  execs: 8 * kib * kib,
  facts: 2 * kib * kib,
  /** Per file or folder told of. */
  perEntry: 16 * kib,
} as const;

type Options = Pick<Question, "signal" | "maxBytes" | "waitMs">;

export function get(what: string, path: string, options: Options): Question {
  return { what, method: "GET", path, ...options };
}

/** A question with a body of JSON. */
export function send(
  method: "POST" | "PUT" | "PATCH",
  what: string,
  path: string,
  body: unknown,
  options: Options,
): Question {
  const bytes = Buffer.from(JSON.stringify(body));
  return { what, method, path, body: [bytes], contentType: "application/json", ...options };
}

export const execPath = (execId: string): string => `/v1/execs/${encodeURIComponent(execId)}`;

/** `?a=1&b=x` of what is defined; of a list, each. */
export function query(values: Record<string, string | number | readonly string[] | undefined>): string {
  const parts = Object.entries(values).flatMap(([name, value]) =>
    (value === undefined ? [] : [value].flat()).map((one) => `${name}=${encodeURIComponent(one)}`),
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}
