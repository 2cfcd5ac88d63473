// @ts-check
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const GUEST_SOURCE = join(ROOT, "guest");
export const GUEST_OUTPUT = join(ROOT, "dist", "guest");
/** Held while node_modules or dist change, so that two runs in one clone do not trip over each other. */
export const BUILD_LOCK = join(ROOT, "package.json");
