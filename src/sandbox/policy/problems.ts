import { z } from "zod";
import { closest } from "../../closest.ts";

/** What is wrong with a policy file, one line each: the key, its value, what is accepted, and the key that was probably meant. */
export function policyProblems(schema: z.ZodType, file: unknown, issues: readonly z.core.$ZodIssue[]): string[] {
  return issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => unknownKey(schema, [...issue.path, key], valueAt(file, [...issue.path, key])));
    }
    const words = issue.code === "invalid_key" ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    return [`${nameOf(issue.path)} = ${shown(valueAt(file, issue.path))}: ${words.replace(/^Invalid input: /, "")}`];
  });
}

function unknownKey(schema: z.ZodType, path: readonly PropertyKey[], value: unknown): string {
  const known = keysAt(schema, path.slice(0, -1));
  const meant = closest(String(path.at(-1)), known);
  const hint = meant === undefined ? "" : ` Did you mean "${meant}"?`;
  return `${nameOf(path)} = ${shown(value)}: unknown key.${hint} Known are ${known.join(", ")}.`;
}

const nameOf = (path: readonly PropertyKey[]): string => z.core.toDotPath(path).slice(0, 200) || "the top";

const mostShown = 120;

function shown(value: unknown): string {
  const text = (JSON.stringify(value) ?? "nothing").replace(/\/\/[^@/"]*@/g, "//***@");
  return text.length > mostShown ? `${text.slice(0, mostShown)}…` : text;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at = value;
  for (const key of path) at = typeof at === "object" && at !== null ? Reflect.get(at, key) : undefined;
  return at;
}

/** Names an object of the schema has at a path. */
function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: z.core.$ZodType = schema;
  for (const key of path) {
    const bare = unwrapped(at);
    if (!(bare instanceof z.ZodObject)) return [];
    at = bare.shape[String(key)] ?? z.never();
  }
  const object = unwrapped(at);
  return object instanceof z.ZodObject ? Object.keys(object.shape).filter((key) => key !== "$schema") : [];
}

function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  return schema instanceof z.ZodOptional ? unwrapped(schema.unwrap()) : schema;
}
