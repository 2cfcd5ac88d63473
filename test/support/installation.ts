import { cpSync, mkdirSync } from "node:fs";
import path from "node:path";
import { root } from "./server.ts";

/** Copies of the built program are made below the project, where its packages are found. */
export const copiesDir = path.join(root, "node_modules/.cache");

/** Puts the built program, without guests, into a folder below {@link copiesDir}. Returns the copy's dist. */
export function copyInstallation(folder: string): string {
  const dist = path.join(folder, "dist");
  mkdirSync(dist, { recursive: true });
  cpSync(path.join(root, "package.json"), path.join(folder, "package.json"));
  for (const part of ["main.js", "program.cjs", "chunks"])
    cpSync(path.join(root, "dist", part), path.join(dist, part), { recursive: true });
  return dist;
}
