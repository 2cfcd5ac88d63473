import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { systemCode } from "../../../errors.ts";
import { paths } from "./layout.ts";

/** open(2)'s O_PATH, which Node does not name: a handle on whatever is there, which opens nothing. */
const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW } = constants;
const socketName = "guest.sock";
/** How long a guest that has just been started may take until it listens, and how often it is looked for. */
const bootMs = 3_000;
const lookEveryMs = 4;

/**
 * Connects to the guest's socket without the engine in between: no engine exec to set up, and about half of a bridge's time for
 * every message. It takes a server that runs on the engine's host and may look into other processes' roots, as root
 * may; undefined where it cannot, and then there is still the bridge.
 *
 * What is inside is hostile: the way is taken name by name from a handle on the sandbox's root, and nothing on it may be a link.
 *
 * @param pid of the sandbox's PID 1, on the host
 */
export async function directStream(
  containerId: string,
  pid: number,
  signal: AbortSignal | undefined,
): Promise<Socket | undefined> {
  const until = performance.now() + bootMs;
  for (;;) {
    const tried = await attempt(containerId, pid);
    if (tried !== "not yet") return tried === "never" ? undefined : tried;
    // A guest that boots has no socket yet, and nothing tells when it has.
    if (performance.now() > until || signal?.aborted) return undefined;
    await delay(lookEveryMs);
  }
}

async function attempt(containerId: string, pid: number): Promise<Socket | "never" | "not yet"> {
  const open: number[] = [];
  const step = (path: string, flags: number): number => {
    const fd = openSync(path, O_PATH | flags);
    open.push(fd);
    return fd;
  };
  let folder: number;
  try {
    folder = step(`/proc/${pid}/root`, O_DIRECTORY);
    // Asked after the handle was taken: pids are used again, and in another pid namespace they mean others.
    if (!belongs(pid, containerId) || isOurs(folder)) throw new Error("not the sandbox");
  } catch {
    for (const fd of open) closeSync(fd);
    return "never";
  }
  try {
    for (const name of paths.run.split("/").filter(Boolean)) folder = step(at(folder, name), O_DIRECTORY | O_NOFOLLOW);
    const socket = step(at(folder, socketName), O_NOFOLLOW);
    if (!fstatSync(socket).isSocket()) return "never";
    return await connected(`/proc/self/fd/${socket}`);
  } catch (error) {
    return ["ENOENT", "ECONNREFUSED"].includes(systemCode(error)) ? "not yet" : "never";
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

const at = (folder: number, name: string): string => `/proc/self/fd/${folder}/${name}`;

/** Every engine names a container's cgroup after its id. */
const belongs = (pid: number, containerId: string): boolean =>
  readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(containerId);

/** Some runtimes keep their sandboxes in processes that see the host's own files. */
function isOurs(root: number): boolean {
  const theirs = fstatSync(root, { bigint: true });
  const ours = statSync("/", { bigint: true });
  return theirs.dev === ours.dev && theirs.ino === ours.ino;
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}
