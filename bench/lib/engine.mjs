// @ts-check
/** The engine without a server before it. */
import { once } from "node:events";
import Docker from "dockerode";
import { onExit } from "../../scripts/lib/cleanup.mjs";

export const IMAGE = "chorus-sandbox/test:busybox";
const MARK = "dev.chorus.bench";
const mine = `${process.pid}`;

/** @type {Docker | undefined} */
let connected;

export function engine() {
  if (connected) return connected;
  const host = process.env["DOCKER_HOST"] ?? "";
  if (!host.startsWith("unix://")) throw new Error("DOCKER_HOST names no unix socket: run `npm run bench`");
  onExit("containers of the bench", removeOwn);
  connected = new Docker({ socketPath: host.slice("unix://".length) });
  return connected;
}

async function removeOwn() {
  await removeByLabel(`${MARK}=${mine}`);
}

/** @param {string} label */
export async function removeByLabel(label) {
  const found = await engine().listContainers({ all: true, filters: { label: [label] } });
  await Promise.allSettled(found.map(({ Id }) => engine().getContainer(Id).remove({ force: true, v: true })));
}

/** `docker exec` of `true`, to its end. @param {Docker.Container} container */
export async function rawExec(container) {
  const exec = await container.exec({ Cmd: ["true"], AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: false });
  stream.resume();
  await once(stream, "end");
}

/**
 * What a sandbox was created with, so that the engine can be asked for the very same.
 *
 * @param {string} sandboxId
 * @returns {Promise<Docker.ContainerCreateOptions>}
 */
export async function sameOptions(sandboxId) {
  const { Config, HostConfig, Image } = await engine().getContainer(sandboxId).inspect();
  const { Hostname: _, ...config } = Config;
  return { ...config, Image, HostConfig, Labels: { [MARK]: mine } };
}

/** Create, start, exec: what a sandbox is at the least. @param {Docker.ContainerCreateOptions} options */
export async function rawSandbox(options) {
  const container = await engine().createContainer(options);
  await container.start();
  await rawExec(container);
  return container;
}

/** A container whose root can be written, which the engine's archive calls need. */
export async function plainContainer() {
  const container = await engine().createContainer({
    Image: IMAGE,
    Cmd: ["sleep", "3600"],
    Labels: { [MARK]: mine },
    HostConfig: { NetworkMode: "none" },
  });
  await container.start();
  return container;
}

/** The archive of a path in a container, read to its end. @param {Docker.Container} container @param {string} path */
export async function getArchive(container, path) {
  const stream = await container.getArchive({ path });
  stream.resume();
  await once(stream, "end");
}

/** Pid on the host of a sandbox's first process. @param {string} sandboxId */
export async function hostPid(sandboxId) {
  return (await engine().getContainer(sandboxId).inspect()).State.Pid;
}
