import { closeSync, constants, fstatSync, mkdirSync, openSync, readlinkSync } from "node:fs";
import { SandboxError, systemCode } from "../../errors.ts";

/**
 * Work below a folder of the host while others may change it: every step starts from an open folder and takes one name, never
 * through a link, which is what openat(2) does. `/proc/self/fd` is how Node gets at it. Names are byte strings.
 *
 * Calls that take microseconds on a local disk are made synchronously: through the thread pool each would take ten times that.
 */

export const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;
const directory = O_RDONLY | O_NOFOLLOW | constants.O_DIRECTORY;

/** A name in an open folder, as a path for calls that do not follow its last part. */
export const inside = (folder: number, name: string): Buffer =>
  Buffer.from(`/proc/self/fd/${folder}/${name}`, "latin1");

/** Opens a folder in a folder; a link is none. */
export const openFolder = (parent: number, name: string): number => openSync(inside(parent, name), directory);

/** Where a path below an open root leads. */
export interface Found {
  /** `folder`: open at `fd`. Else `name` in the folder open at `fd`, a `file` of any kind or `missing`. */
  kind: "folder" | "file" | "missing";
  fd: number;
  name: string;
  /** Closes every folder opened on the way. */
  close(): void;
}

const mostLinks = 40;

export interface Root {
  /** Open at the root. Stays the caller's. */
  fd: number;
  /** The root's path without links: where absolute links may lead. */
  real: string;
  /** Refuses to enter a folder by throwing. */
  enter?: (fd: number) => void;
}

/**
 * Follows a path below a root, links as well as long as they stay below it. What leaves throws what `outside` makes; folders that
 * are missing on the way are made if asked.
 */
export function follow(root: Root, path: readonly string[], make: boolean, outside: () => SandboxError): Found {
  const open: number[] = [];
  const close = (): void => {
    for (const fd of open.splice(0)) closeSync(fd);
  };
  const here = (): number => open.at(-1) ?? root.fd;
  const step = (name: string): void => {
    const fd = openFolder(here(), name);
    open.push(fd);
    root.enter?.(fd);
  };
  let left = path.filter((segment) => segment !== "" && segment !== ".");
  let links = 0;
  try {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      if (name === "..") {
        const fd = open.pop();
        if (fd === undefined) throw outside();
        closeSync(fd);
        continue;
      }
      try {
        step(name);
        continue;
      } catch (error) {
        const code = systemCode(error);
        if (code === "ENOENT" && left.length === 0) return { kind: "missing", fd: here(), name, close };
        if (code === "ENOENT" && make) {
          mkdirSync(inside(here(), name), 0o755);
          step(name);
          continue;
        }
        if (code !== "ENOTDIR" && code !== "ELOOP") throw error;
      }
      const target = linkTarget(here(), name);
      if (target === undefined) {
        if (left.length > 0) throw new SandboxError("FILE_INVALID", `On the host, ${shown(name)} is no folder.`);
        return { kind: "file", fd: here(), name, close };
      }
      if (++links > mostLinks) throw outside();
      let segments = target.split("/").filter((segment) => segment !== "" && segment !== ".");
      if (target.startsWith("/")) {
        const base = Buffer.from(root.real).toString("latin1");
        if (target !== base && !target.startsWith(base === "/" ? "/" : `${base}/`)) throw outside();
        segments = target
          .slice(base.length)
          .split("/")
          .filter((segment) => segment !== "" && segment !== ".");
        close();
      }
      left = [...segments, ...left];
    }
    return { kind: "folder", fd: here(), name: "", close };
  } catch (error) {
    close();
    throw error;
  }
}

/** What a link says; undefined for anything else. */
function linkTarget(folder: number, name: string): string | undefined {
  try {
    return readlinkSync(inside(folder, name), "latin1");
  } catch (error) {
    if (systemCode(error) === "EINVAL") return undefined;
    throw error;
  }
}

/** Tells one folder from every other, under whatever name it was opened. */
export function identity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}

const shown = (name: string): string => JSON.stringify(Buffer.from(name, "latin1").toString());
