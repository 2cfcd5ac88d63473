import { spawn } from "node:child_process";
import { z } from "zod";
import { givenUp, SandboxError, systemCode } from "../../../errors.ts";

export interface Credentials {
  username?: string | undefined;
  password?: string | undefined;
  identitytoken?: string | undefined;
  registrytoken?: string | undefined;
}

const limitMs = 15_000;
const mostBytes = 64 * 1024;

const answer = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Asks `docker-credential-<name>` for a registry, as github.com/docker/docker-credential-helpers has it: the server's address on
 * stdin, one JSON object on stdout. Undefined when the helper has none; what else it prints is not repeated to anyone.
 */
export async function askHelper(
  name: string,
  server: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(name)) throw failed(name, "has a name no helper has");
  const { code, output } = await run(`docker-credential-${name}`, server, signal).catch((error: unknown) => {
    if (error instanceof SandboxError) throw error;
    const missing = systemCode(error) === "ENOENT";
    throw failed(name, missing ? "is not on the server's PATH" : "cannot be run");
  });
  if (code !== 0) {
    if (/credentials not found in native keychain/i.test(output)) return undefined;
    throw failed(name, `ended with ${code ?? "a signal"}`);
  }
  const parsed = answer.safeParse(json(output));
  if (!parsed.success) throw failed(name, "answered something else than credentials");
  const { Username, Secret } = parsed.data;
  return Username === "<token>" ? { identitytoken: Secret } : { username: Username, password: Secret };
}

function run(program: string, input: string, signal: AbortSignal | undefined) {
  return new Promise<{ code: number | null; output: string }>((resolve, reject) => {
    const child = spawn(program, ["get"], { stdio: ["pipe", "pipe", "ignore"], detached: true });
    const chunks: Buffer[] = [];
    let size = 0;
    const end = (error: SandboxError): void => {
      reject(error);
      // Helpers are often shell scripts; what they started goes as well.
      if (child.pid !== undefined) killGroup(child.pid);
      child.stdout.destroy();
    };
    const name = program.replace("docker-credential-", "");
    const timer = setTimeout(() => end(failed(name, `did not answer within ${limitMs / 1_000} s`)), limitMs);
    const onAbort = (): void =>
      end(givenUp(signal?.reason, `The Docker credential helper ${JSON.stringify(name)} did not answer`));
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > mostBytes) end(failed(name, `answered more than ${mostBytes} bytes`));
      else chunks.push(chunk);
    });
    // A helper that does not read its stdin is told by how it ends.
    child.stdin.on("error", () => {});
    child.stdin.end(`${input}\n`);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output: Buffer.concat(chunks).toString("utf8") }));
    child.once("close", () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    });
    child.once("error", () => clearTimeout(timer));
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failed(name: string, why: string): SandboxError {
  return new SandboxError(
    "IMAGE_PULL_FAILED",
    `The Docker credential helper ${JSON.stringify(name.slice(0, 128))} ${why}.`,
    {
      next: "Check it with `docker-credential-NAME list`, or take it out of Docker's config.json (credHelpers, credsStore).",
      retryable: false,
    },
  );
}
