import type { Input } from "./input.ts";

/** What a fake command can reach. */
export interface Io {
  cwd: string;
  env: Record<string, string>;
  stdin: Input;
  /** Contents of a file, or undefined. */
  readFile(path: string): Buffer | undefined;
  writeFile(path: string, bytes: Buffer, append: boolean): void;
  out(bytes: Buffer): void;
  err(bytes: Buffer): void;
  /** Rejects when the exec is killed. */
  sleep(ms: number): Promise<void>;
  /** Ends the exec as a signal would. */
  die(how: "KILL" | "oom"): never;
}

type Command = (args: string[], io: Io) => number | Promise<number>;

/** Thrown by `exit`, caught by the shell it ends. */
export class Exit extends Error {
  readonly status: number;

  constructor(status: number) {
    super("exit");
    this.status = status;
  }
}

/** All programs of the fake guest. The names up to `sleep` exist in any busybox; what follows is its own. */
export const commands: Record<string, Command> = {
  true: () => 0,
  false: () => 1,
  ":": () => 0,
  exit: ([status]) => {
    throw new Exit(Number(status ?? 0) & 255);
  },
  echo: (args, io) => {
    const newline = args[0] !== "-n";
    io.out(Buffer.from(args.slice(newline ? 0 : 1).join(" ") + (newline ? "\n" : "")));
    return 0;
  },
  printf: ([format = "", ...args], io) => {
    io.out(Buffer.from(printf(format, args)));
    return 0;
  },
  pwd: (_args, io) => {
    io.out(Buffer.from(`${io.cwd}\n`));
    return 0;
  },
  env: (_args, io) => {
    for (const [name, value] of Object.entries(io.env)) io.out(Buffer.from(`${name}=${value}\n`));
    return 0;
  },
  cat: async (args, io) => {
    if (args.length === 0) for await (const bytes of io.stdin) io.out(bytes);
    let status = 0;
    for (const path of args) {
      const bytes = io.readFile(path);
      if (bytes !== undefined) io.out(bytes);
      else {
        io.err(Buffer.from(`cat: can't open '${path}': No such file or directory\n`));
        status = 1;
      }
    }
    return status;
  },
  sleep: async ([seconds], io) => {
    await io.sleep(Number(seconds ?? 0) * 1000);
    return 0;
  },
  /** Dies of SIGKILL. */
  "kill-me": (_args, io) => io.die("KILL"),
  /** Is killed for want of memory. */
  "oom-me": (_args, io) => io.die("oom"),
  /** `fill N`: N bytes of output. */
  fill: async ([size], io) => {
    const piece = Buffer.alloc(64 * 1024, "x");
    for (let left = Number(size ?? 0); left > 0; left -= piece.length) {
      io.out(piece.subarray(0, left));
      await io.sleep(0);
    }
    return 0;
  },
};

const escapes: Record<string, string> = { n: "\n", t: "\t", r: "\r", "\\": "\\" };

/** `%s`, `%d` with zero padding and width, `%%` and the usual escapes; repeats the format while arguments are left, as printf does. */
function printf(format: string, args: string[]): string {
  const rest = [...args];
  let text = "";
  do {
    const before = rest.length;
    text += format
      .replace(/%(0?)(\d*)([sd%])/g, (_match, zero: string, width: string, kind: string) =>
        kind === "%"
          ? "%"
          : (rest.shift() ?? (kind === "d" ? "0" : "")).padStart(Number(width), zero === "0" ? "0" : " "),
      )
      .replace(/\\([ntr\\])/g, (_match, letter: string) => escapes[letter] ?? "")
      .replace(/\\([0-7]{1,3})/g, (_match, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (rest.length === before) break;
  } while (rest.length > 0);
  return text;
}
