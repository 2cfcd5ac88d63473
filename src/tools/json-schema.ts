import { z } from "zod";

/** The part of JSON Schema 2020-12 that our tools use. */
export type JsonSchema = {
  type?: string | string[];
  description?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  items?: JsonSchema;
  enum?: (string | number)[];
  anyOf?: JsonSchema[];
  default?: string | number | boolean;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string;
};

/** A tool's schema root, as tools/list wants it. */
export type ObjectSchema = JsonSchema & { type: "object" };

/** What clients list: lengths of strings are checked all the same, and cost every conversation their tokens. */
export function slim<S extends JsonSchema>(schema: S): S {
  const { minLength: _min, maxLength: _max, ...rest } = schema;
  const slimmed = {
    ...rest,
    ...(schema.properties && { properties: mapValues(schema.properties, slim) }),
    ...(schema.items && { items: slim(schema.items) }),
    ...(schema.anyOf && { anyOf: schema.anyOf.map(slim) }),
    ...(typeof schema.additionalProperties === "object" && { additionalProperties: slim(schema.additionalProperties) }),
  };
  // Only optional keywords were taken away.
  return slimmed as S;
}

const mapValues = (
  record: Record<string, JsonSchema>,
  map: (value: JsonSchema) => JsonSchema,
): Record<string, JsonSchema> => Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));

/**
 * JSON Schema of a tool's arguments or result. `io: "input"` leaves result objects open, so that a client which keeps an old
 * list accepts a new optional field. Without `$schema`: 2020-12 is MCP's default, and 1.x clients compile with a validator
 * that does not know its URI.
 */
export function toJsonSchema(schema: z.ZodObject): ObjectSchema {
  const { $schema: _, ...root } = z.toJSONSchema(schema, { target: "draft-2020-12", io: "input" });
  // zod emits exactly the keywords of JsonSchema for the types that tools are allowed to use; a test compiles each of them.
  return { ...(withoutNoise(root) as JsonSchema), type: "object" };
}

/** zod describes the keys of every record; model APIs refuse `propertyNames`. */
function withoutNoise(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutNoise);
  if (typeof node !== "object" || node === null) return node;
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => key !== "propertyNames")
      .map(([key, value]) => [key, withoutNoise(value)]),
  );
}
