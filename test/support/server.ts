import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

export { eventually } from "./eventually.ts";

export const root = path.resolve(import.meta.dirname, "../..");
export const busybox = "chorus-sandbox/test:busybox";

/** An answer of a tool as an agent gets it. */
export interface Answer {
  text: string;
  isError: boolean;
  /** structuredContent; empty for errors. */
  data: Record<string, unknown>;
  /** `_meta["dev.chorus/error"]`, for errors. */
  error?: { code: string; message: string; retryable: boolean; next: string };
}

export interface CallOptions {
  signal?: AbortSignal;
  onprogress?: (progress: { progress: number; message?: string | undefined }) => void;
  timeoutMs?: number;
}

/** A real server process with a real 2026-era client on its stdio. */
export interface TestServer extends AsyncDisposable {
  readonly pid: number;
  readonly dataDir: string;
  /** What it has written to stderr. */
  log(): string;
  call(tool: string, args?: Record<string, unknown>, options?: CallOptions): Promise<Answer>;
  /** As `call`, and throws when the answer is an error. */
  ok(tool: string, args?: Record<string, unknown>, options?: CallOptions): Promise<Record<string, unknown>>;
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  readonly client: Client;
}

export interface StartOptions {
  /** Shared by servers that shall know the same sandboxes. @default a new one, removed on dispose */
  dataDir?: string;
  env?: Record<string, string>;
  name?: string;
  /** The program to start. @default `dist/main.js` */
  main?: string;
  /** Command line that runs the program, such as {@link throughTheEngine}. */
  prefix?: readonly string[];
  /** Gets what it writes to stderr. */
  onLog?: (words: string) => void;
}

/** Runs a server without the right to look into other processes: it reaches guests through the engine alone. */
export const throughTheEngine = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];

/** Runs a server whose data dir is a small disk of its own. */
export const onSmallDisk = (dataDir: string, megabytes: number): string[] => {
  const script = 'mkdir -p "$1"; mount -t tmpfs -o size="$2m",mode=700 tmpfs "$1"; shift 2; exec "$@"';
  return ["unshare", "-Urm", "sh", "-c", script, "sh", dataDir, String(megabytes)];
};

/** Starts `dist/main.js` as an MCP client would. The engine comes from DOCKER_HOST or the usual sockets. */
export async function startServer(options: StartOptions = {}): Promise<TestServer> {
  const main = options.main ?? path.join(root, "dist/main.js");
  if (!existsSync(main))
    throw new Error("dist/main.js is missing: run `npm run build`, or the tests through `npm test`");
  const dataDir = options.dataDir ?? path.join(mkdtempSync(path.join(tmpdir(), "chorus-test-")), "data");
  const [command = "", ...args] = [...(options.prefix ?? []), process.execPath, main];
  const transport = new StdioClientTransport({
    command,
    args,
    cwd: root,
    stderr: "pipe",
    env: {
      ...Object.fromEntries(
        Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
      ),
      NATS_URL: "",
      LOG_LEVEL: "debug",
      CHORUS_SANDBOX_POOL: "0",
      CHORUS_SANDBOX_IMAGE: busybox,
      CHORUS_SANDBOX_DATA_DIR: dataDir,
      ...options.env,
    },
  });
  let log = "";
  transport.stderr?.on("data", (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-200_000);
    options.onLog?.(chunk.toString());
  });
  const client = new Client(
    { name: options.name ?? "chorus-tests", version: "1.0.0" },
    { versionNegotiation: { mode: "auto" } },
  );
  let gone: () => void = () => {};
  const closed = new Promise<void>((resolve) => {
    gone = resolve;
  });
  client.onclose = () => gone();
  await client.connect(transport).catch((error: unknown) => {
    throw new Error(`the server did not come up: ${String(error)}\n${log}`);
  });
  const pid = transport.pid ?? 0;

  const call = async (
    tool: string,
    args: Record<string, unknown> = {},
    { signal, onprogress, timeoutMs = 60_000 }: CallOptions = {},
  ) => {
    const result = await client.callTool(
      { name: tool, arguments: args },
      { timeout: timeoutMs, ...(signal && { signal }), ...(onprogress && { onprogress }) },
    );
    const first = Array.isArray(result.content) ? result.content[0] : undefined;
    const error = result._meta?.["dev.chorus/error"] as Answer["error"];
    return {
      text: first?.type === "text" ? first.text : "",
      isError: result.isError === true,
      data: (result.structuredContent ?? {}) as Record<string, unknown>,
      ...(error && { error }),
    };
  };

  return {
    pid,
    dataDir,
    client,
    call,
    log: () => log,
    async ok(tool, args, callOptions) {
      const answer = await call(tool, args, callOptions);
      if (answer.isError) throw new Error(`${tool} failed: ${answer.text}\n--- server log\n${log.slice(-4_000)}`);
      return answer.data;
    },
    async kill() {
      process.kill(pid, "SIGKILL");
      await closed;
    },
    async [Symbol.asyncDispose]() {
      await client.close().catch(() => {});
      if (options.dataDir === undefined) rmSync(path.dirname(dataDir), { recursive: true, force: true });
    },
  };
}
