// @ts-check
import { createHash, randomFillSync } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sizes } from "../lib/curves.mjs";
import { getArchive, plainContainer } from "../lib/engine.mjs";
import { atLeast, atMost } from "../lib/goals.mjs";
import { tarCopy, tarOf, withFolder } from "../lib/host.mjs";
import { figure, mbPerSecond, must, rate, took } from "../lib/measure.mjs";
import { withServer } from "../lib/server.mjs";

/**
 * @typedef {import("../lib/bench.mjs").Bench} Bench
 * @typedef {import("../lib/server.mjs").Server} Server
 * @typedef {{ up: number[], down: number[], put: number[], get: number[], floor: number[] }} Times milliseconds
 * @typedef {{ server: Server, container: import("dockerode").Container, folder: string }} Place
 */

const MIB = 2 ** 20;

/** @type {import("../lib/bench.mjs").Theme} */
export const transfers = {
  name: "transfers",
  title: "Trees between host and sandbox",
  run: (bench) =>
    withFolder((folder) =>
      withServer({ env: { CHORUS_SANDBOX_HOST_DIRS: `${folder}:rw` } }, async (server) => {
        const place = { server, container: await plainContainer(), folder };
        await oneBig(bench, place);
        await manySmall(bench, place);
        await growth(bench, place);
        await place.container.remove({ force: true });
      }),
    ),
};

/** @param {Bench} bench @param {Place} place */
async function oneBig(bench, place) {
  const bytes = (bench.quick ? 10 : 100) * MIB;
  const times = await transfer(place, bench.samples(5, 2), { bytes, make: (tree) => bigFile(tree, bytes) });
  const speed = (/** @type {string} */ name, /** @type {number[]} */ ms) =>
    rate(
      name,
      ms.map((each) => mbPerSecond(bytes, each)),
    );
  const floor = speed("tar | tar on the host", times.floor);
  const what = `${bytes / MIB} MiB`;
  const goals = [atLeast(100)];
  bench.row({
    id: "transfers.up",
    what: `upload ${what}`,
    ours: speed("file_upload", times.up),
    engine: speed("engine archive, put", times.put),
    floor,
    goals,
  });
  bench.row({
    id: "transfers.down",
    what: `download ${what}`,
    ours: speed("file_download", times.down),
    engine: speed("engine archive, get", times.get),
    floor,
    goals,
  });
}

/** @param {Bench} bench @param {Place} place */
async function manySmall(bench, place) {
  const count = bench.quick ? 1_000 : 10_000;
  const times = await transfer(place, bench.samples(3, 1), {
    bytes: count * 100,
    files: count,
    make: (tree) => {
      for (let i = 0; i < count; i++) {
        if (i % 100 === 0) mkdirSync(join(tree, `d${i / 100}`));
        writeFileSync(join(tree, `d${Math.floor(i / 100)}`, `f${i}`), `${i}`.padEnd(100, "."));
      }
    },
  });
  const floor = figure("tar | tar on the host", times.floor);
  const what = `${count} small files`;
  const goals = [atMost(3_000)];
  bench.row({
    id: "transfers.up-many",
    what: `upload ${what}`,
    ours: figure("file_upload", times.up),
    engine: figure("engine archive, put", times.put),
    floor,
    goals,
  });
  bench.row({
    id: "transfers.down-many",
    what: `download ${what}`,
    ours: figure("file_download", times.down),
    engine: figure("engine archive, get", times.get),
    floor,
    goals,
  });
}

/** @param {Bench} bench @param {Place} place */
async function growth(bench, place) {
  for (const bytes of sizes(bench.quick)) {
    const rounds = bytes < 2 ** 25 ? bench.samples(5, 2) : 1;
    const times = await transfer(place, rounds, { bytes, make: (tree) => bigFile(tree, bytes) });
    bench.point("bytes", "file_upload", bytes, figure("", times.up).p50);
    bench.point("bytes", "file_download", bytes, figure("", times.down).p50);
    bench.point("bytes", "engine archive, put", bytes, figure("", times.put).p50);
    bench.point("bytes", "engine archive, get", bytes, figure("", times.get).p50);
    bench.point("bytes", "tar | tar on the host", bytes, figure("", times.floor).p50);
  }
}

/**
 * A tree there and back, ours, the engine's and the host's, in turns. What came back is compared, byte for byte.
 *
 * @param {Place} place
 * @param {number} rounds
 * @param {{ bytes: number, files?: number, make: (tree: string) => void }} cargo
 * @returns {Promise<Times>}
 */
async function transfer({ server, container, folder }, rounds, { bytes, files = 1, make }) {
  const tree = join(folder, "tree");
  const back = join(folder, "back");
  const copy = join(folder, "copy");
  mkdirSync(tree);
  make(tree);
  const expected = await treeHash(tree);
  const { sandbox_id: id } = await server.create({ workspace_mb: Math.ceil(bytes / MIB) * 2 + 128, memory_mb: 256 });
  /** @type {Times} */
  const times = { up: [], down: [], put: [], get: [], floor: [] };
  for (let i = 0; i < rounds; i++) {
    await server.call("exec_run", { sandbox_id: id, command: "rm -rf tree", wait_s: 50 });
    times.up.push(
      await took(async () => {
        const up = await server.call("file_upload", { sandbox_id: id, host_path: tree, path: "tree" });
        must(up["files"] === files && up["bytes"] === bytes, `${up["files"]} files of ${up["bytes"]} bytes went up`);
      }),
    );
    rmSync(back, { recursive: true, force: true });
    times.down.push(
      await took(async () => {
        const down = await server.call("file_download", { sandbox_id: id, path: "tree", host_path: back });
        must(
          down["files"] === files && down["bytes"] === bytes,
          `${down["files"]} files of ${down["bytes"]} bytes came`,
        );
      }),
    );
    must((await treeHash(back)) === expected, "what came back is not what went there");
    times.put.push(await took(async () => container.putArchive(tarOf(folder, "tree"), { path: "/tmp" })));
    times.get.push(await took(() => getArchive(container, "/tmp/tree")));
    times.floor.push(await tarCopy(tree, copy));
  }
  await server.destroy(id);
  for (const each of [tree, back, copy]) rmSync(each, { recursive: true, force: true });
  return times;
}

/** @param {string} tree @param {number} bytes */
function bigFile(tree, bytes) {
  const file = join(tree, "big");
  const block = Buffer.alloc(Math.min(bytes, MIB));
  for (let at = 0; at < bytes; at += block.length) writeFileSync(file, randomFillSync(block), { flag: "a" });
}

/** Of all names and contents. @param {string} tree */
async function treeHash(tree) {
  const hash = createHash("sha256");
  const entries = readdirSync(tree, { recursive: true, withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const name of names.sort()) {
    hash.update(name.slice(tree.length));
    for await (const chunk of createReadStream(name)) hash.update(chunk);
  }
  return hash.digest("hex");
}
