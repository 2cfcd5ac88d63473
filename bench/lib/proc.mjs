// @ts-check
/** Processes seen from the host, through /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks a second: 100 on every Linux that Node runs on. */
const TICK_MS = 10;

/** @param {number} pid @param {"VmRSS" | "RssAnon"} [field] @returns {number} MiB */
export function rssMb(pid, field = "VmRSS") {
  const kib = new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib ?? Number.NaN) / 1024;
}

/** CPU time so far, user and system. @param {number} pid @returns {number} ms */
export function cpuMs(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Open file descriptors. @param {number} pid */
export const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/**
 * The most resident memory a process takes while something runs, beyond what it took before, in MiB.
 *
 * @template T
 * @param {number} pid
 * @param {() => Promise<T>} work
 * @returns {Promise<{ result: T, grownMb: number }>}
 */
export async function watchingRss(pid, work) {
  const before = rssMb(pid);
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, rssMb(pid));
  }, 20);
  try {
    const result = await work();
    return { result, grownMb: Math.max(most, rssMb(pid)) - before };
  } finally {
    clearInterval(watch);
  }
}

/**
 * The processes of a container, as the host's kernel lists them; undefined where the engine does not run on this host.
 *
 * @param {number} pid of its first process
 * @returns {(() => Set<number>) | undefined}
 */
export function cgroupProcesses(pid) {
  try {
    const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n");
    const v1 = lines.find((line) => line.split(":")[1] === "pids");
    const v2 = lines.find((line) => line.startsWith("0::"));
    const group = (v1 ?? v2)?.split(":")[2];
    if (!group || group === "/") return undefined;
    const file = `/sys/fs/cgroup${v1 ? "/pids" : ""}${group}/cgroup.procs`;
    const read = () => new Set(readFileSync(file, "utf8").split("\n").filter(Boolean).map(Number));
    return read().has(pid) ? read : undefined;
  } catch {
    return undefined;
  }
}
