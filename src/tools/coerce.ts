import type { JsonSchema } from "./json-schema.ts";

/**
 * Some clients send numbers, booleans, arrays and objects as JSON strings, and null for what they leave out. Both are understood
 * where the schema leaves no doubt; anything else stays as it came, for the parser to name.
 */
export function coerce(value: unknown, schema: JsonSchema): unknown {
  const types = typesOf(schema);
  const meant =
    typeof value === "string" && !types.has("string") && !types.has("any") ? understood(value, types) : value;
  if (Array.isArray(meant)) {
    const { items } = schema;
    return items === undefined ? meant : meant.map((item) => coerce(item, items));
  }
  if (isObject(meant)) return coerceObject(meant, schema);
  return meant;
}

function coerceObject(value: Record<string, unknown>, schema: JsonSchema): Record<string, unknown> {
  const rest = typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
  const entries = Object.entries(value).flatMap(([key, given]): [string, unknown][] => {
    const property =
      schema.properties !== undefined && Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
    const known = property ?? rest;
    if (known === undefined) return [[key, given]];
    const absent =
      given === null && property !== undefined && !schema.required?.includes(key) && !typesOf(property).has("null");
    return absent ? [] : [[key, coerce(given, known)]];
  });
  return Object.fromEntries(entries);
}

/** The value that a JSON string stands for, if it is of an accepted type; else the string. */
function understood(text: string, types: ReadonlySet<string>): unknown {
  const trimmed = text.trim();
  if ((types.has("number") || types.has("integer")) && /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(trimmed))
    return Number(trimmed);
  if (types.has("boolean") && /^(true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  if (types.has("null") && trimmed === "null") return null;
  const opens = (types.has("array") && trimmed.startsWith("[")) || (types.has("object") && trimmed.startsWith("{"));
  if (!opens) return text;
  try {
    return JSON.parse(trimmed);
  } catch {
    return text;
  }
}

/** JSON types a schema accepts; `any` when it does not say. */
export function typesOf(schema: JsonSchema): ReadonlySet<string> {
  if (schema.anyOf !== undefined) return new Set(schema.anyOf.flatMap((one) => [...typesOf(one)]));
  return new Set(Array.isArray(schema.type) ? schema.type : [schema.type ?? "any"]);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
