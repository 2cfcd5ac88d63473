// @ts-check
/**
 * Loaded into a server under test before its own code: at SIGUSR2 it collects garbage and writes what is left to the file of
 * BENCH_MEMORY_FILE. Without this, growth and garbage that nobody was in a hurry to collect look alike.
 */
import { renameSync, writeFileSync } from "node:fs";
import { memoryUsage } from "node:process";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const file = process.env["BENCH_MEMORY_FILE"] ?? "";
process.on("SIGUSR2", () => {
  // What finalizers let go of is collected only afterwards.
  collect();
  setImmediate(() => {
    collect();
    writeFileSync(`${file}.new`, JSON.stringify(memoryUsage()));
    renameSync(`${file}.new`, file);
  });
});
