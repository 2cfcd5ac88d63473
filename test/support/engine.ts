import Docker from "dockerode";

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

export async function killContainer(name: string): Promise<void> {
  await engine().getContainer(name).kill({ signal: "SIGKILL" });
}
