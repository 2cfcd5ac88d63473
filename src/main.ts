#!/usr/bin/env node
import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import path from "node:path";
import { Script } from "node:vm";

/**
 * Runs the bundled program. Compiling it is a good part of what a client waits for at start, so V8's compiled code is kept beside
 * it: for each program, version of V8 and machine one. From Node 22 on, `module.enableCompileCache()` does the same.
 */
const program = path.join(import.meta.dirname, "program.cjs");
/** A session that lasts longer keeps it by then: V8 forgets in time what only the start needed. */
const keepAfterMs = 10_000;

// The build leaves nothing in it but ASCII.
const text = readFileSync(program, "latin1");
// V8 itself asks for the same version, flags and length of the text; the same text is for us to see to.
const hash = createHash("sha1").update(text).digest("hex").slice(0, 12);
const cache = path.join(import.meta.dirname, `program-${hash}.v8-${process.versions.v8}-${process.arch}.cache`);

function cached(): Buffer | undefined {
  try {
    return readFileSync(cache);
  } catch {
    return undefined;
  }
}

let kept = false;
function keep(): void {
  if (kept) return;
  kept = true;
  const draft = `${cache}.${process.pid}-${Date.now().toString(36)}`;
  try {
    writeFileSync(draft, script.createCachedData(), { flag: "wx", mode: 0o644 });
    renameSync(draft, cache);
  } catch {
    // An installation that cannot be written starts a little slower.
    rmSync(draft, { force: true });
  }
}

const cachedData = cached();
const script = new Script(Module.wrap(text), { filename: program, ...(cachedData && { cachedData }) });
if (!cachedData || script.cachedDataRejected) {
  setTimeout(keep, keepAfterMs).unref();
  process.once("exit", (code) => {
    if (code === 0) keep();
  });
}

// As Node's own loader does: what the program loads later asks for it by its name.
const module = new Module(program);
module.filename = program;
module.loaded = true;
const require = createRequire(program);
require.cache[program] = module;
script.runInThisContext()(module.exports, require, module, program, path.dirname(program));
