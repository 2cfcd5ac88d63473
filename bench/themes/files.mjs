// @ts-check
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { engine, getArchive, plainContainer } from "../lib/engine.mjs";
import { atMost } from "../lib/goals.mjs";
import { tarOf, withFolder } from "../lib/host.mjs";
import { must, timed } from "../lib/measure.mjs";
import { withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench @typedef {import("../lib/server.mjs").Server} Server */

const CONTENT = "x".repeat(1_024);

/** @type {import("../lib/bench.mjs").Theme} */
export const files = {
  name: "files",
  title: "Small calls: stats and files",
  async run(bench) {
    await withServer({}, async (server) => {
      const { sandbox_id: id } = await server.create();
      await stats(bench, server, id);
      await small(bench, server, id);
    });
  },
};

/** @param {Bench} bench @param {Server} server @param {string} id */
async function stats(bench, server, id) {
  const ours = await timed("sandbox_stats", bench.samples(300), async () => {
    const { memory, pids } = await server.call("sandbox_stats", { sandbox_id: id });
    must(memory["used_bytes"] > 0 && pids["limit"] > 0, "stats of a sandbox without memory or limits");
  });
  const oneShot = () => engine().getContainer(id).stats({ stream: false, "one-shot": true });
  const raw = await timed("engine stats, one shot", 3, oneShot, { warmUp: 0 });
  bench.row({ id: "files.stats", what: "stats of a sandbox", ours, engine: raw, goals: [atMost(2.5)] });
}

/** @param {Bench} bench @param {Server} server @param {string} id */
async function small(bench, server, id) {
  const container = await plainContainer();
  await withFolder(async (folder) => {
    const path = join(folder, "bench.txt");
    const goals = [atMost(2.5)];
    const n = bench.samples(300);
    const few = bench.samples(30);

    const write = await timed("file_write", n, () =>
      server.call("file_write", { sandbox_id: id, files: [{ path: "bench.txt", content: CONTENT }] }),
    );
    const atomically = async () => {
      writeFileSync(`${path}.new`, CONTENT);
      renameSync(`${path}.new`, path);
    };
    const writeFloor = await timed("write + rename on the host", n, atomically);
    const archive = Buffer.from(await text(tarOf(folder, "bench.txt")));
    const put = () => container.putArchive(archive, { path: "/tmp" });
    const rawPut = await timed("engine archive, put", few, put, { warmUp: 1 });
    bench.row({ id: "files.write", what: "write 1 KiB", ours: write, engine: rawPut, floor: writeFloor, goals });

    const read = await timed("file_read", n, async () => {
      const { content } = await server.call("file_read", { sandbox_id: id, path: "bench.txt" });
      must(content === CONTENT, "what was read is not what was written");
    });
    const readFloor = await timed("read on the host", n, async () => readFileSync(path));
    const get = () => getArchive(container, "/tmp/bench.txt");
    const rawGet = await timed("engine archive, get", few, get, { warmUp: 1 });
    bench.row({ id: "files.read", what: "read 1 KiB", ours: read, engine: rawGet, floor: readFloor, goals });
  });
  await container.remove({ force: true });
}
