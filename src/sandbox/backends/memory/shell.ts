import { commands, Exit, type Io } from "./commands.ts";

/**
 * As much of a shell as tests need: words with quotes and variables, `;`, `&&`, `||`, `&`, newlines, `>`, `>>` and the four ways to
 * join stdout and stderr. No pipes, no loops.
 */

interface Word {
  text: string;
  operator: boolean;
}

const operators = /^(&&|\|\||2>&1|1>&2|>&2|>>|>|;|&|\n)/;

function tokenize(line: string, variable: (name: string) => string): Word[] {
  const words: Word[] = [];
  let word: string | undefined;
  const flush = (): void => {
    if (word !== undefined) words.push({ text: word, operator: false });
    word = undefined;
  };
  for (let at = 0; at < line.length; ) {
    const rest = line.slice(at);
    const operator = operators.exec(rest)?.[0];
    const name = /^\$\{?(\w+|\?)\}?/.exec(rest);
    const quote = /^(?:'([^']*)'|"((?:[^"\\]|\\.)*)")/s.exec(rest);
    if (operator !== undefined && (word === undefined || !/^\d/.test(operator))) {
      flush();
      words.push({ text: operator, operator: true });
      at += operator.length;
    } else if (quote) {
      word = (word ?? "") + (quote[1] ?? expand(quote[2] ?? "", variable));
      at += quote[0].length;
    } else if (name) {
      word = (word ?? "") + variable(name[1] ?? "");
      at += name[0].length;
    } else if (/^\s/.test(rest)) {
      flush();
      at += 1;
    } else {
      const skip = rest[0] === "\\" ? 1 : 0;
      word = (word ?? "") + (rest[skip] ?? "");
      at += 1 + skip;
    }
  }
  flush();
  return words;
}

function expand(text: string, variable: (name: string) => string): string {
  return text
    .replace(/\$\{?(\w+|\?)\}?/g, (_match, name: string) => variable(name))
    .replace(/\\(["\\$])/g, (_match, character: string) => character);
}

/** Runs a program by name. undefined when there is none of that name. */
export async function runProgram(argv: readonly string[], io: Io): Promise<number | undefined> {
  const name = (argv[0] ?? "").replace(/^\/(usr\/)?bin\//, "");
  if ((name === "sh" || name === "bash") && argv[1]?.endsWith("c")) return runShell(argv[2] ?? "", io);
  if (!Object.hasOwn(commands, name)) return undefined;
  return commands[name]?.(argv.slice(1), io);
}

export const isProgram = (name: string): boolean => {
  const base = name.replace(/^\/(usr\/)?bin\//, "");
  return base === "sh" || base === "bash" || (base !== "exit" && Object.hasOwn(commands, base));
};

/** Runs a line and gives its exit status. Jobs started with `&` are handed to `io.background`. */
export async function runShell(
  line: string,
  io: Io & { background?: (job: Promise<unknown>) => void },
): Promise<number> {
  let status = 0;
  const words = tokenize(line, (name) => (name === "?" ? String(status) : (io.env[name] ?? "")));
  try {
    let connector = ";";
    for (let at = 0; at < words.length; ) {
      let end = at;
      while (end < words.length && !isConnector(words[end])) end += 1;
      const command = words.slice(at, end);
      const next = words[end]?.text ?? ";";
      at = end + 1;
      const skipped = (connector === "&&" && status !== 0) || (connector === "||" && status === 0);
      connector = next;
      if (skipped || command.length === 0) continue;
      if (next === "&") io.background?.(runCommand(command, io));
      else status = await runCommand(command, io);
    }
  } catch (error) {
    if (error instanceof Exit) return error.status;
    throw error;
  }
  return status;
}

const isConnector = (word: Word | undefined): boolean =>
  word?.operator === true && ["&&", "||", ";", "&", "\n"].includes(word.text);

async function runCommand(words: readonly Word[], outer: Io): Promise<number> {
  const io = { ...outer };
  const argv: string[] = [];
  for (let at = 0; at < words.length; at += 1) {
    const { text, operator } = words[at] ?? { text: "", operator: false };
    if (!operator) argv.push(text);
    else if (text === "2>&1") io.err = io.out;
    else if (text === "1>&2" || text === ">&2") io.out = io.err;
    else {
      const path = words[++at]?.text ?? "";
      let append = text === ">>";
      const write = (bytes: Buffer): void => {
        io.writeFile(path, bytes, append);
        append = true;
      };
      write(Buffer.alloc(0));
      io.out = write;
    }
  }
  const status = await runProgram(argv, io);
  if (status !== undefined) return status;
  io.err(Buffer.from(`sh: ${argv[0] ?? ""}: not found\n`));
  return 127;
}
