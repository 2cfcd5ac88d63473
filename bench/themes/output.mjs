// @ts-check

import { sizes } from "../lib/curves.mjs";
import { atLeast, atMost } from "../lib/goals.mjs";
import { withGuest } from "../lib/guest.mjs";
import { figure, mbPerSecond, must, rate, timed } from "../lib/measure.mjs";
import { watchingRss } from "../lib/proc.mjs";
import { withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench @typedef {import("../lib/server.mjs").Server} Server */

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** @type {import("../lib/bench.mjs").Theme} */
export const output = {
  name: "output",
  title: "Output",
  async run(bench) {
    await withServer({}, async (server) => {
      const { sandbox_id: id } = await server.create();
      const bytes = bench.quick ? 64 * MIB : GIB;
      const floor = await pipe(server, id, bytes);
      await flood(bench, server, id, bytes, floor);
      await reader(bench, id, bytes, floor);
      await growth(bench, server, id);
    });
  },
};

/** Says so many zeros as fast as a pipe takes them: BusyBox's `head -c` goes byte by byte. @param {number} bytes a power of two */
const say = (bytes) => {
  const block = Math.min(bytes, 64 * 1024);
  return `dd if=/dev/zero bs=${block} count=${bytes / block} 2>/dev/null`;
};

/** The same from one process to another, inside the same sandbox. @param {Server} server @param {string} id @param {number} bytes */
async function pipe(server, id, bytes) {
  const command = `${say(bytes)} | cat > /dev/null`;
  const { duration_ms: ms } = await server.call("exec_run", { sandbox_id: id, command, wait_s: 50 });
  return rate("dd | cat", [mbPerSecond(bytes, ms)]);
}

/** @param {number} bytes */
const named = (bytes) => (bytes >= GIB ? `${bytes / GIB} GiB` : `${bytes / MIB} MiB`);

/** A command that says so much, followed as a client that asked for progress. @param {Bench} bench @param {Server} server @param {string} id @param {number} bytes @param {import("../lib/measure.mjs").Figure} floor */
async function flood(bench, server, id, bytes, floor) {
  const memory = async () => (await server.call("sandbox_stats", { sandbox_id: id }))["memory"];
  const { used_bytes: before } = await memory();
  const started = performance.now();
  const { result, grownMb } = await watchingRss(server.pid, () =>
    server.call("exec_run", { sandbox_id: id, command: say(bytes), wait_s: 50 }, { onprogress: () => {} }),
  );
  const ms = performance.now() - started;
  must(result["stdout_bytes"] === bytes, `${result["stdout_bytes"]} of ${bytes} bytes of output were counted`);
  const { used_bytes: after } = await memory();
  const spool = `the sandbox's own memory grew by ${((after - before) / MIB).toFixed(1)} MiB, its spool`;
  const what = `${named(bytes)} of output`;
  const ours = figure("server", [grownMb], "MiB");
  bench.row({ id: "output.rss", what: `${what}: server RSS grows by`, ours, goals: [atMost(64)], note: spool });
  const speed = rate("exec_run with progress", [mbPerSecond(bytes, ms)]);
  bench.row({ id: "output.exec", what: `${what}: taken from a command that waits for none`, ours: speed, floor });
}

/**
 * Every byte handed on, over the client code of the server. The command goes at its reader's pace while the reader moves.
 *
 * @param {Bench} bench
 * @param {string} id
 * @param {number} bytes
 * @param {import("../lib/measure.mjs").Figure} floor
 */
async function reader(bench, id, bytes, floor) {
  await withGuest(id, async (guest) => {
    const execId = "ex_benchreader";
    // What is said before anyone follows may be more than the spool keeps, so it waits until somebody does.
    const command = `echo; read -r _; ${say(bytes)}`;
    await guest.startExec(execId, { command, keep_stdin: true }, { wait_ms: 0 });
    let started = 0;
    let received = 0;
    let next = 0;
    let produced = 0;
    for await (const part of guest.streamExec(execId, {})) {
      if ("end" in part) {
        produced = part.end.stdout_bytes;
        continue;
      }
      must(part.offset >= next, "output came twice");
      next = part.offset + part.bytes.length;
      received += part.bytes.length;
      if (started > 0) continue;
      started = performance.now();
      await guest.writeStdin(execId, Buffer.from("\n"), true);
    }
    const ms = performance.now() - started;
    must(produced === bytes + 1 && next === produced, `the stream ended at ${next} of ${bytes + 1} bytes`);
    const what = `${named(bytes)} of output: to a reader that keeps up`;
    const ours = rate("stream of the guest", [mbPerSecond(received, ms)]);
    // A machine that stalls for a quarter of a second makes any reader one that does not keep up.
    const note =
      received === produced ? "every byte came" : `${((100 * received) / produced).toFixed(1)} % of the bytes came`;
    bench.row({ id: "output.reader", what, ours, floor, goals: [atLeast(100)], note });
  });
}

/** Output of every size, counted to the last byte. @param {Bench} bench @param {Server} server @param {string} id */
async function growth(bench, server, id) {
  for (const bytes of sizes(bench.quick)) {
    const samples = await timed("output", bytes < 2 ** 25 ? bench.samples(20, 3) : 1, async () => {
      const result = await server.call("exec_run", { sandbox_id: id, command: say(bytes), wait_s: 50 });
      must(result["stdout_bytes"] === bytes, `${result["stdout_bytes"]} of ${bytes} bytes of output were counted`);
    });
    bench.point("bytes", "output of a command", bytes, samples.p50);
  }
}
