import { closeSync, constants, openSync, realpathSync } from "node:fs";
import path from "node:path";
import { quoted, SandboxError, systemCode } from "../errors.ts";
import { PolicyDenied } from "./admission.ts";
import { type Found, follow, identity, type Root } from "./host/descriptors.ts";
import { toBytes } from "./host/names.ts";

/** A folder of the host that the operator opened to uploads (`ro`) or to both directions (`rw`). */
export interface HostDir {
  path: string;
  mode: "ro" | "rw";
}

export type Access = "read" | "write";

const beneath = (root: string, asked: string): boolean =>
  asked === root || asked.startsWith(root === "/" ? "/" : `${root}/`);

/**
 * Pure: the open folder that decides over a path, which is the innermost, and the path below it. Looks at names only: links are
 * followed step by step once the folder is open. POLICY_DENIED names what is open.
 */
export function openHostDir(
  dirs: readonly HostDir[],
  asked: string,
  access: Access,
): { dir: HostDir; below: string[] } {
  if (!path.isAbsolute(asked) || asked.includes("\0")) {
    throw new SandboxError("INVALID_ARGUMENT", `host_path ${quoted(asked)} is not absolute.`, {
      next: whatIsOpen(dirs),
    });
  }
  const wanted = path.normalize(asked).replace(/(?<=.)\/+$/, "");
  const [dir] = dirs
    .map((one) => ({ ...one, path: one.path.replace(/(?<=.)\/+$/, "") }))
    .filter((one) => beneath(one.path, wanted))
    .sort((a, b) => b.path.length - a.path.length);
  if (dir === undefined) throw notOpen(dirs, asked);
  if (access === "write" && dir.mode === "ro") {
    throw new PolicyDenied(
      "host_dirs",
      "host_path",
      asked,
      shown(dirs),
      `The host folder ${JSON.stringify(dir.path)} is open for reading only.`,
      whatIsOpen(dirs),
    );
  }
  return { dir, below: wanted.slice(dir.path.length).split("/").filter(Boolean) };
}

/** A place on the host, reached without leaving its open folder. */
export interface HostPlace extends Found {
  /** Asks of every further folder whether it may be written. */
  enter: NonNullable<Root["enter"]>;
}

/** Follows a path of the host from its open folder on. Whoever gets the place closes it. */
export function reach(dirs: readonly HostDir[], asked: string, access: Access): HostPlace {
  const { dir, below } = openHostDir(dirs, asked, access);
  if (process.platform !== "linux") {
    throw new PolicyDenied(
      "host_dirs",
      "host_path",
      asked,
      [],
      "Host folders can be kept apart from the rest of the host on Linux only, and this server runs elsewhere.",
      "Use file_read and file_write.",
    );
  }
  const closed = access === "write" ? readOnlyBelow(dirs, dir) : new Set<string>();
  const enter = (fd: number): void => {
    if (closed.size > 0 && closed.has(identity(fd))) throw Object.assign(new Error("read-only"), { code: "EROFS" });
  };
  let fd: number | undefined;
  try {
    const real = realpathSync(dir.path);
    const opened = openSync(real, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    fd = opened;
    const found = follow({ fd: opened, real, enter }, below.map(toBytes), access === "write", () =>
      notOpen(dirs, asked),
    );
    const close = (): void => {
      found.close();
      closeSync(opened);
    };
    return { ...found, close, enter };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw hostFailure(error, asked, dirs);
  }
}

/** Folders within a writable one that the operator opened for reading only. */
function readOnlyBelow(dirs: readonly HostDir[], outer: HostDir): Set<string> {
  const inner = dirs.filter((one) => one.mode === "ro" && one.path !== outer.path && beneath(outer.path, one.path));
  return new Set(
    inner.flatMap((one) => {
      try {
        const fd = openSync(one.path, constants.O_RDONLY | constants.O_DIRECTORY);
        try {
          return [identity(fd)];
        } finally {
          closeSync(fd);
        }
      } catch {
        return [];
      }
    }),
  );
}

/** What a failed call of the host's file system means to an agent. */
export function hostFailure(error: unknown, asked: string, dirs: readonly HostDir[]): unknown {
  if (error instanceof SandboxError) return error;
  const where = `On the host, ${quoted(asked)}`;
  const next = { next: whatIsOpen(dirs), cause: error };
  const code = systemCode(error);
  if (!/^E(?!RR_)[A-Z0-9]+$/.test(code)) return error;
  switch (code) {
    case "ENOENT":
      return new SandboxError("FILE_NOT_FOUND", `${where} does not exist.`, next);
    case "EACCES":
    case "EPERM":
      return new SandboxError("PERMISSION_DENIED", `${where} is not permitted to the user the server runs as.`, next);
    case "EROFS":
      return new PolicyDenied(
        "host_dirs",
        "host_path",
        asked,
        shown(dirs),
        `${where} is open for reading only.`,
        next.next,
      );
    case "ENOTDIR":
    case "ELOOP":
      return new SandboxError("FILE_INVALID", `${where} is not what its name says, or has just changed.`, next);
    case "ENOSPC":
    case "EDQUOT":
      return new SandboxError("LIMIT_EXCEEDED", "The host's disk is full.", { cause: error });
    default:
      return new SandboxError("FILE_INVALID", `${where} cannot be used (${code}).`, next);
  }
}

function notOpen(dirs: readonly HostDir[], asked: string): PolicyDenied {
  return new PolicyDenied(
    "host_dirs",
    "host_path",
    asked,
    shown(dirs),
    `The host path ${quoted(asked)} is outside the folders the operator opened.`,
    whatIsOpen(dirs),
  );
}

const shown = (dirs: readonly HostDir[]): string[] => dirs.map((dir) => `${dir.path}:${dir.mode}`);

const whatIsOpen = (dirs: readonly HostDir[]): string =>
  dirs.length === 0
    ? "No host folder is open; the operator opens some with CHORUS_SANDBOX_HOST_DIRS. file_read and file_write work without."
    : `Open are ${shown(dirs).join(", ")} (ro: upload only); the operator opens others with CHORUS_SANDBOX_HOST_DIRS.`;
