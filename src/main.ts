#!/usr/bin/env node
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import path from "node:path";
import { Script } from "node:vm";

/**
 * Runs the bundled program. Compiling it is a third of what a client waits for at start, so V8's compiled code is kept beside it, for
 * each version of V8 one: written at the end of the first run, and done without where nobody may write.
 */
const program = path.join(import.meta.dirname, "program.cjs");
const cache = path.join(import.meta.dirname, `program.v8-${process.versions.v8}-${process.arch}.cache`);

/** V8 itself checks its version, its flags and the length of the source; a cache from before the program says nothing about it. */
function cached(): Buffer | undefined {
  try {
    return statSync(cache).mtimeMs >= statSync(program).mtimeMs ? readFileSync(cache) : undefined;
  } catch {
    return undefined;
  }
}

function keep(data: Buffer): void {
  const draft = `${cache}.${process.pid}`;
  try {
    writeFileSync(draft, data);
    renameSync(draft, cache);
  } catch {
    // An installation that cannot be written starts a little slower.
    rmSync(draft, { force: true });
  }
}

const cachedData = cached();
const script = new Script(Module.wrap(readFileSync(program, "utf8")), {
  filename: program,
  ...(cachedData && { cachedData }),
});
if (!cachedData || script.cachedDataRejected) process.once("exit", () => keep(script.createCachedData()));

const require = createRequire(program);
const module = new Module(program);
// What the program loads later asks for it by this name.
require.cache[program] = module;
script.runInThisContext()(module.exports, require, module, program, path.dirname(program));
