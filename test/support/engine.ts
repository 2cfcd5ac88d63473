import { execFile } from "node:child_process";
import { promisify } from "node:util";
import Docker from "dockerode";

const run = promisify(execFile);

/** The engine the tests run on, seen from outside: what an operator would see. A missing engine fails with the command that provides it. */
export function engine(): Docker {
  const host = process.env["DOCKER_HOST"];
  if (!host?.startsWith("unix://")) {
    throw new Error(
      "DOCKER_HOST names no engine: run the tests through `npm test`, or `node scripts/dev-env.mjs -- npx vitest run …`",
    );
  }
  return new Docker({ socketPath: host.slice("unix://".length), timeout: 30_000 });
}

export interface SeenContainer {
  id: string;
  name: string;
  state: string;
}

/** Containers of one install, by the id in their labels. */
export async function containersOf(sandboxIds: string[]): Promise<SeenContainer[]> {
  const all = await engine().listContainers({ all: true });
  return all
    .map((container) => ({ id: container.Id, name: (container.Names[0] ?? "").slice(1), state: container.State }))
    .filter((container) => sandboxIds.includes(container.name));
}

/** All containers whose names look like sandboxes, whoever made them. */
export async function sandboxNames(): Promise<string[]> {
  const all = await engine().listContainers({ all: true });
  return all.map((container) => (container.Names[0] ?? "").slice(1)).filter((name) => /^sb_[0-9a-z]{16}$/.test(name));
}

export async function killContainer(name: string): Promise<void> {
  await engine().getContainer(name).kill({ signal: "SIGKILL" });
}

/** Pids of processes whose command line contains `text`, on this host; the engine's containers run on it too. */
export async function pidsWith(text: string): Promise<number[]> {
  const { stdout } = await run("pgrep", ["-f", text]).catch(() => ({ stdout: "" }));
  return stdout.split("\n").filter(Boolean).map(Number);
}
