// @ts-check
import { execFileSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { engine } from "./engine.mjs";

/** @typedef {{ line: string, load: number, at: string, commit: string }} Machine */

const TMPFS = 0x01021994;

/** Taken before anything is measured: the load is that of others. @returns {Promise<Machine>} */
export async function describeMachine() {
  const { Version, KernelVersion } = await engine().version();
  const load = loadavg()[0] ?? 0;
  const memoryOnly = statfsSync(tmpdir()).type === TMPFS;
  const parts = [
    `${cpus()[0]?.model.trim()}, ${cpus().length} cores`,
    `${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${KernelVersion ?? release()}`,
    `Docker ${Version}`,
    `Node ${process.version}`,
    memoryOnly ? "data dirs in memory (numbers of the journal say nothing about a disk)" : "data dirs on disk",
    `load ${load.toFixed(2)} before the run`,
  ];
  return { line: parts.join(" · "), load, at: new Date().toISOString(), commit: commit() };
}

function commit() {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], {
      cwd: import.meta.dirname,
      encoding: "utf8",
    }).trim();
  } catch {
    return "unknown";
  }
}
