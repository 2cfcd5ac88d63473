import { writeFile } from "node:fs/promises";
import { policySchemaText } from "./sandbox/policy/json-schema.ts";

// Part of `npm run schemas`: brings the policy file's schema up to the code.
await writeFile(new URL("../schemas/policy.schema.json", import.meta.url), policySchemaText());
