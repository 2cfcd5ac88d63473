import { posix } from "node:path";
import { SandboxError } from "../../../errors.ts";
import { guestMount, guestPath, paths } from "./layout.ts";

/** What the image declares and a sandbox must not be changed by. */
export interface ImageFacts {
  image_id: string;
  arch: GuestArch;
  /** `NAME=value` lines. */
  env: readonly string[];
  /** Paths for which the engine would make a volume of its own. */
  volumes: readonly string[];
}

export const guestArchs = ["amd64", "arm64"] as const;
export type GuestArch = (typeof guestArchs)[number];

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Every field of an image's configuration that reaches a container, with our value. */
export function neutralised(image: ImageFacts) {
  return {
    Cmd: [],
    User: "0:0",
    WorkingDir: "/",
    Env: guestEnv(image.env),
    Healthcheck: { Test: ["NONE"] },
    StopSignal: "SIGTERM",
  };
}

/**
 * PID 1's environment. The engine adds whatever the image declares and the call does not name, so every name the image
 * declares is named here, empty. Of its values only PATH passes, since commands need it to find the image's programs.
 */
export function guestEnv(imageEnv: readonly string[]): string[] {
  const env = new Map<string, string>();
  let path = defaultPath;
  for (const line of imageEnv) {
    const split = line.indexOf("=");
    const name = split < 0 ? line : line.slice(0, split);
    if (name === "") continue;
    if (name === "PATH") path = sanePath(line.slice(split + 1));
    else env.set(name, "");
  }
  env.set("PATH", path);
  env.set("HOME", "/");
  return [...env].map(([name, value]) => `${name}=${value}`);
}

const mostVariables = 128;
const mostVariableBytes = 64 * 1024;
/** What the guest sets itself, and what makes the loader run other code than the one asked for. */
const notForCommands = /^(PATH|HOME|USER|LOGNAME|PWD|SHELL|LD_.*|GLIBC_TUNABLES)$/;

/** What the image declares for its programs (JAVA_HOME, GOPATH, …), as far as commands may have it. */
export function commandEnv(imageEnv: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  let bytes = 0;
  for (const line of imageEnv.slice(0, mostVariables)) {
    const split = line.indexOf("=");
    const name = line.slice(0, Math.max(0, split));
    bytes += Buffer.byteLength(line);
    if (bytes > mostVariableBytes) break;
    if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !notForCommands.test(name) && !line.includes("\0")) {
      env[name] = line.slice(split + 1);
    }
  }
  return env;
}

/** Absolute folders of a search path; the default when nothing useful is left. */
function sanePath(value: string): string {
  const folders = value
    .split(":")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being kept out
    .filter((folder) => folder.startsWith("/") && !/[\u0000-\u001f\u007f]/.test(folder));
  const path = [...new Set(folders)].join(":");
  return path === "" || path.length > 4096 ? defaultPath : path;
}

/**
 * A mount for each path the image declares a volume at, since the engine would else make a writable volume on its disk.
 * Empty and read-only, like the rest of the root: the places to write are the workdir and /tmp.
 */
export function volumeCovers(volumes: readonly string[]): Record<string, string> {
  const ours: string[] = [guestMount, ...Object.values(paths)];
  const covers: Record<string, string> = {};
  for (const declared of volumes) {
    const path = posix
      .normalize(declared)
      .replace(/(.)\/+$/, "$1")
      .replace(/^\/+/, "/");
    if (
      !path.startsWith("/") ||
      reserved.some((root) => path === root || (root !== "/" && path.startsWith(`${root}/`)))
    ) {
      throw new SandboxError(
        "INVALID_ARGUMENT",
        `The image declares a volume at ${JSON.stringify(declared.slice(0, 200))}, where a sandbox cannot have one.`,
        {
          next: "Use an image without this VOLUME, or leave `image` out to use the default image.",
        },
      );
    }
    if (!ours.includes(path)) covers[path] = "ro,noexec,nosuid,nodev,size=4k";
  }
  return covers;
}

/** Where a mount would replace the root itself, what the kernel shows, or the guest's own files. */
const reserved = ["/", "/proc", "/sys", "/dev", guestPath, paths.run];
