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
  const guest = connectGuest(new AttachedStream(await session.start({ hijack: true, stdin: true })));
  try {
    return await work(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}
