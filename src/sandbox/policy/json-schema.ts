import { z } from "zod";
import { policyFileSchema } from "./schema.ts";

/** The policy file's JSON Schema, for editors and for checking a file before it is used. */
export function policySchemaText(): string {
  const schema = z.toJSONSchema(policyFileSchema, { io: "input", target: "draft-2020-12" });
  return `${JSON.stringify(schema, null, 2)}\n`;
}
