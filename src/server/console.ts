import { Console } from "node:console";
import type { Writable } from "node:stream";

const methods = [
  "log",
  "info",
  "debug",
  "dir",
  "dirxml",
  "table",
  "group",
  "groupCollapsed",
  "count",
  "timeEnd",
  "timeLog",
] as const;

/** Stdout is the protocol's alone: what any package prints with `console` goes to `target`. */
export function redirectConsole(target: Writable): void {
  const elsewhere = new Console(target, target);
  for (const method of methods) console[method] = elsewhere[method].bind(elsewhere);
}
