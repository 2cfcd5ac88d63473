import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { promisify } from "node:util";

const root = new URL("../../", import.meta.url);

/** Builds the test server, in a folder of the test file's own since files run side by side, and says how to start it. */
export async function buildServer(user: string): Promise<{ command: string; args: string[] }> {
  const built = new URL(`node_modules/.cache/mcp-server/${user}/`, root);
  await mkdir(built, { recursive: true });
  await writeFile(new URL("package.json", built), '{"type":"module"}');
  const out = ["--outDir", built.pathname, "--tsBuildInfoFile", new URL(".tsbuildinfo", built).pathname];
  const tsc = ["node_modules/typescript/bin/tsc", "-p", "test/support/mcp.tsconfig.json", ...out];
  await promisify(execFile)(process.execPath, tsc, { cwd: root });
  return { command: process.execPath, args: [new URL("test/support/mcp-server.js", built).pathname] };
}

export interface Reply {
  id?: string | number | null;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code: number; message: string };
}

/** A server process spoken to in bare lines. */
export class RawServer {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly exited: Promise<number | null>;
  readonly lines: Reply[] = [];
  stderr = "";
  readonly #waiting = new Set<() => void>();

  constructor({ command, args }: { command: string; args: string[] }) {
    this.child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.exited = new Promise((resolve) => this.child.on("close", resolve));
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      this.lines.push(JSON.parse(line));
      this.#wake();
    });
    this.child.stderr.on("data", (chunk) => {
      this.stderr += chunk;
      this.#wake();
    });
  }

  #wake(): void {
    for (const check of this.#waiting) check();
  }

  /** Settles when `find` finds something in what the server said. */
  until<T>(find: () => T | undefined | false): Promise<T> {
    return new Promise((resolve) => {
      const check = (): void => {
        const found = find();
        if (found === undefined || found === false) return;
        this.#waiting.delete(check);
        resolve(found);
      };
      this.#waiting.add(check);
      check();
    });
  }

  write(text: string): void {
    this.child.stdin.write(text);
  }

  send(message: object): void {
    this.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  async request(id: string | number, method: string, params: object = {}): Promise<Reply> {
    this.send({ id, method, params });
    return this.reply(id);
  }

  reply(id: string | number | null): Promise<Reply> {
    return this.until(() => this.lines.find((line) => line.id === id));
  }

  async initialize(): Promise<Reply> {
    const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "raw", version: "1" } };
    const reply = await this.request("init", "initialize", params);
    this.send({ method: "notifications/initialized" });
    return reply;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.stdin.end();
    this.child.kill("SIGKILL");
    await this.exited;
  }
}
