// @ts-check
/** A session with a sandbox's guest that goes past MCP and the server, over the code of the build. */
import { engine } from "./engine.mjs";

/** Of the build, which is there when this runs and not when it is checked. @param {string} file @returns {Promise<any>} */
export const built = (file) => import(new URL(`../../dist/${file}`, import.meta.url).href);

/**
 * @template T
 * @param {string} sandboxId
 * @param {(guest: any) => Promise<T>} work
 */
export async function withGuest(sandboxId, work) {
  const { connectGuest } = await built("sandbox/guest/client.js");
  const guest = connectGuest((await direct(sandboxId)) ?? (await bridge(sandboxId)));
  try {
    return await work(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

/** Past the engine, as the server does where it may. @param {string} sandboxId */
async function direct(sandboxId) {
  if (process.getuid?.() !== 0) return undefined;
  const { directStream } = await built("sandbox/backends/docker/direct.js");
  const { Id, State } = await engine().getContainer(sandboxId).inspect();
  return directStream(Id, State.Pid, undefined);
}

/** @param {string} sandboxId */
async function bridge(sandboxId) {
  const { AttachedStream } = await built("sandbox/backends/docker/stream.js");
  const session = await engine()
    .getContainer(sandboxId)
    .exec({
      Cmd: ["/.chorus/guest", "connect"],
      User: "0:0",
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    });
  return new AttachedStream(await session.start({ hijack: true, stdin: true }));
}
