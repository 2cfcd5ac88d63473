import type { z } from "zod";
import { closest } from "../closest.ts";
import { quoted, SandboxError } from "../errors.ts";
import { coerce, isObject } from "./coerce.ts";
import type { JsonSchema } from "./json-schema.ts";

const issuesShown = 12;

/** Arguments as the tool's schema has them. INVALID_ARGUMENT names everything that is wrong with the call at once. */
export function parseArguments<I extends z.ZodObject>(
  tool: string,
  input: I,
  schema: JsonSchema,
  raw: unknown,
): z.output<I> {
  const given = coerce(raw ?? {}, schema);
  const parsed = input.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => describe(issue, given, schema));
  const shown = problems.slice(0, issuesShown);
  if (problems.length > shown.length) shown.push(`and ${problems.length - shown.length} more`);
  const [first] = shown;
  const message =
    shown.length === 1 && first
      ? `${first}.`
      : `${problems.length} things are wrong:\n${shown.map((p) => `- ${p}`).join("\n")}`;
  throw new SandboxError("INVALID_ARGUMENT", message, { next: `Correct the arguments and call ${tool} again.` });
}

/** One issue: which argument, what was given, what is accepted. */
function describe(issue: z.core.$ZodIssue, root: unknown, schema: JsonSchema): string {
  if (issue.code === "custom") return issue.message;
  const where = pathName(issue.path);
  const at = schemaAt(schema, issue.path);
  if (issue.code === "unrecognized_keys") {
    const known = Object.keys(at.properties ?? {});
    const names = issue.keys.slice(0, issuesShown).map((key) => {
      const meant = closest(key, known);
      return quoted(key, 60) + (meant === undefined ? "" : ` (did you mean ${meant}?)`);
    });
    const inside = where === "" ? "" : ` in ${where}`;
    return `unknown argument ${names.join(", ")}${inside}; known: ${known.join(", ")}`;
  }
  const value = valueAt(root, issue.path);
  const label = where === "" ? "arguments" : where;
  return value === undefined
    ? `${label}: missing; accepted: ${accepted(at)}`
    : `${label}: ${shownValue(value)} given; accepted: ${accepted(at)}`;
}

function shownValue(value: unknown): string {
  if (typeof value === "string") return quoted(value, 80);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (isObject(value)) return "an object";
  return String(value);
}

/** What a schema accepts, in words. */
export function accepted(schema: JsonSchema): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.join(", ")}`;
  if (schema.anyOf !== undefined) return schema.anyOf.map(accepted).join(" or ");
  if (Array.isArray(schema.type)) return schema.type.map((type) => accepted({ ...schema, type })).join(" or ");
  switch (schema.type) {
    case "integer":
    case "number":
      return `${schema.type === "integer" ? "a whole number" : "a number"}${range(schema.minimum, schema.maximum)}`;
    case "string": {
      const size = range(schema.minLength, schema.maxLength);
      const pattern = schema.pattern === undefined ? "" : ` matching ${schema.pattern}`;
      return `a string${size === "" ? "" : ` of${size.replace(" from", "")} characters`}${pattern}`;
    }
    case "boolean":
      return "true or false";
    case "array":
      return `an array${range(schema.minItems, schema.maxItems).replace(" from", " of")}${schema.items ? `, each ${accepted(schema.items)}` : ""}`;
    case "object":
      return typeof schema.additionalProperties === "object"
        ? `an object whose values are each ${accepted(schema.additionalProperties)}`
        : `an object of ${Object.keys(schema.properties ?? {}).join(", ")}`;
    case "null":
      return "null";
    default:
      return "any value";
  }
}

function range(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` from ${min} up`;
  return max === undefined ? "" : ` up to ${max}`;
}

function pathName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, key) => {
    if (typeof key === "number") return `${name}[${key}]`;
    const text = /^\w{1,64}$/.test(String(key)) ? String(key) : quoted(String(key), 60);
    return name === "" ? text : `${name}.${text}`;
  }, "");
}

function schemaAt(schema: JsonSchema, path: readonly PropertyKey[]): JsonSchema {
  return path.reduce<JsonSchema>((at, key) => {
    if (typeof key === "number") return at.items ?? {};
    const property =
      at.properties !== undefined && Object.hasOwn(at.properties, key) ? at.properties[String(key)] : undefined;
    return property ?? (typeof at.additionalProperties === "object" ? at.additionalProperties : {});
  }, schema);
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => {
    if (Array.isArray(at)) return at[Number(key)];
    return isObject(at) && Object.hasOwn(at, key) ? at[String(key)] : undefined;
  }, value);
}
