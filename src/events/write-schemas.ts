import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { schemaFiles } from "./asyncapi.ts";

// `npm run schemas`: brings the folder `schemas/` up to the code, from wherever it is started.
const folder = new URL("../../schemas/", import.meta.url);
const files = schemaFiles();
await mkdir(folder, { recursive: true });
for (const name of await readdir(folder))
  if (name.endsWith(".json") && name !== "policy.schema.json" && !files.has(name)) await rm(new URL(name, folder));
for (const [name, text] of files) await writeFile(new URL(name, folder), text);
