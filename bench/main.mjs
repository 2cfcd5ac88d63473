#!/usr/bin/env node
// @ts-check
/**
 * DESIGN's numbers, each beside the raw engine call or floor for the same thing, in one run. Prints a table, and writes it with the
 * machine's line to bench/results/latest.json. `--quick` takes fewer samples.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { connect } from "nats";
import { figure, inTurns, table, timed } from "./measure.mjs";
import { IMAGE, rawEngine, rawExec, rssMb, sameOptions, startServer, startUp } from "./parts.mjs";

/** @typedef {import("./measure.mjs").Row} Row */

const quick = process.argv.includes("--quick");
const n = (/** @type {number} */ full) => (quick ? Math.max(5, Math.round(full / 10)) : full);
/** @type {Row[]} */
const rows = [];
const add = (/** @type {Row} */ row) => {
  rows.push(row);
  process.stderr.write(`  ${row.what}\n`);
};
const least = (/** @type {Row} */ row, /** @type {number} */ ms) => ({
  ...row,
  goal: `≤ ${ms} ms`,
  met: row.ours.p50 <= ms,
});

/** Of the build, which is there when this runs and not when it is checked. @param {string} file */
const built = (file) => import(new URL(`../dist/${file}`, import.meta.url).href);
const { connectGuest } = await built("sandbox/guest/client.js");
const { AttachedStream } = await built("sandbox/backends/docker/stream.js");

const engine = rawEngine();
const server = await startServer({ NATS_URL: "" });
const { sandbox_id: id } = await server.call("sandbox_create");
const container = engine.getContainer(id);

const nothing = () => server.client.request({ method: "resources/templates/list", params: {} });
add({ what: "MCP round trip that does nothing", ours: await timed("a constant list", n(300), nothing) });

const exec = await timed("exec_run true", n(300), () => server.call("exec_run", { sandbox_id: id, argv: ["true"] }));
const dockerExec = await timed("docker exec true", n(30), () => rawExec(container), { warmUp: 2 });
add(least({ what: "exec of true through MCP stdio", ours: exec, raw: dockerExec }, 3));

add(await guestAlone());

const stats = await timed("sandbox_stats", n(200), () => server.call("sandbox_stats", { sandbox_id: id }));
const rawStats = await timed("engine stats, one shot", 3, () => container.stats({ stream: false, "one-shot": true }), {
  warmUp: 0,
});
add(least({ what: "stats", ours: stats, raw: rawStats }, 3));

await smallFiles();
await coldCreate();
add(
  least(
    { what: "start → initialize answered", ours: await timed("node dist/main.js", n(20), startUp, { warmUp: 1 }) },
    300,
  ),
);
await output();
await server.call("sandbox_destroy", { sandbox_id: id });
await server.close();
await eventLatency();

const machine = `${cpus()[0]?.model.trim()} × ${cpus().length}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version}`;
process.stdout.write(`\n${machine}\n${(await engine.version()).Version} engine\n\n${table(rows)}\n`);
const results = join(import.meta.dirname, "results");
mkdirSync(results, { recursive: true });
writeFileSync(
  join(results, "latest.json"),
  `${JSON.stringify({ machine, at: new Date().toISOString(), rows }, null, 2)}\n`,
);

/** The guest without MCP: a session of our own to the same sandbox. */
async function guestAlone() {
  const session = await container.exec({
    Cmd: ["/.chorus/guest", "connect"],
    User: "0:0",
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
  });
  const raw = await session.start({ hijack: true, stdin: true });
  const guest = connectGuest(new AttachedStream(raw));
  let i = 0;
  const ours = await timed("guest exec", n(300), () =>
    guest.startExec(`ex_bench${i++}`, { argv: ["true"] }, { wait_ms: 5_000 }),
  );
  await guest[Symbol.asyncDispose]();
  const started = performance.now();
  const forks = 300;
  execFileSync("sh", ["-c", `i=0; while [ $i -lt ${forks} ]; do /bin/true; i=$((i+1)); done`]);
  const floor = figure("fork+exec on the host", [(performance.now() - started) / forks]);
  return least({ what: "guest exec alone", ours, raw: floor }, 1.5);
}

/** 1 KiB each way; the engine's archive calls need a container whose root can be written. */
async function smallFiles() {
  const files = [{ path: "bench.txt", content: "x".repeat(1024) }];
  const plain = await engine.createContainer({
    Image: IMAGE,
    Cmd: ["sleep", "600"],
    HostConfig: { NetworkMode: "none" },
  });
  await plain.start();
  const folder = mkdtempSync(join(tmpdir(), "chorus-bench-"));
  writeFileSync(join(folder, "bench.txt"), "x".repeat(1024));
  const archive = execFileSync("tar", ["-cf", "-", "-C", folder, "bench.txt"]);
  const write = await timed("file_write", n(200), () => server.call("file_write", { sandbox_id: id, files }));
  const put = await timed("engine archive, put", n(30), () => plain.putArchive(archive, { path: "/tmp" }), {
    warmUp: 1,
  });
  add(least({ what: "write 1 KiB", ours: write, raw: put }, 3));
  const read = await timed("file_read", n(200), () => server.call("file_read", { sandbox_id: id, path: "bench.txt" }));
  const get = await timed(
    "engine archive, get",
    n(30),
    async () => {
      const stream = await plain.getArchive({ path: "/tmp/bench.txt" });
      stream.resume();
      await once(stream, "end");
    },
    { warmUp: 1 },
  );
  add(least({ what: "read 1 KiB", ours: read, raw: get }, 3));
  await plain.remove({ force: true });
  rmSync(folder, { recursive: true, force: true });
}

/** Create to first result: ours through MCP, and the same container asked of the engine directly, in turns. */
async function coldCreate() {
  const options = await sameOptions(container);
  const [ours, raw] = await inTurns(
    n(20),
    [
      "sandbox_create + exec_run",
      async () => {
        const started = performance.now();
        const sandbox = await server.call("sandbox_create");
        await server.call("exec_run", { sandbox_id: sandbox["sandbox_id"], argv: ["true"] });
        const ms = performance.now() - started;
        await server.call("sandbox_destroy", { sandbox_id: sandbox["sandbox_id"] });
        return ms;
      },
    ],
    [
      "engine create + start + exec",
      async () => {
        const started = performance.now();
        const made = await engine.createContainer(options);
        await made.start();
        await rawExec(made);
        const ms = performance.now() - started;
        await made.remove({ force: true });
        return ms;
      },
    ],
  );
  add({ what: "cold create → first exec", ours, raw, goal: "≤ 1.1× raw", met: ours.p50 <= raw.p50 * 1.1 });
}

/** 1 GiB of output: what the server grows by, and how fast the process could write. */
async function output() {
  const before = rssMb(server.pid);
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, rssMb(server.pid));
  }, 20);
  const started = performance.now();
  const result = await server.call("exec_run", { sandbox_id: id, command: "head -c 1073741824 /dev/zero", wait_s: 50 });
  const seconds = (performance.now() - started) / 1000;
  clearInterval(watch);
  if (result["stdout_bytes"] !== 2 ** 30) throw new Error("not all output was counted");
  add({
    what: "1 GiB of output: server RSS grows by",
    ours: figure("rss", [most - before], "MiB"),
    goal: "≤ 64 MiB",
    met: most - before <= 64,
  });
  add({ what: "1 GiB of output: taken at", ours: figure("rate", [1024 / seconds], "MiB/s") });
}

/** From the moment the tool's answer is here to the moment a JetStream consumer has the event; negative counts as zero. */
async function eventLatency() {
  const url = process.env["NATS_URL"];
  if (!url) throw new Error("NATS_URL is not set: run `npm run bench`");
  const publishing = await startServer({ NATS_URL: url });
  const sandbox = await publishing.call("sandbox_create");
  const nc = await connect({ servers: url });
  const js = nc.jetstream();
  /** @type {Map<string, number>} */
  const arrived = new Map();
  /** @type {Map<string, (at: number) => void>} */
  const waiting = new Map();
  const { consumerOpts } = await import("nats");
  const subscription = await js.subscribe(
    `chorus.sandbox.v1.*.*.${sandbox["sandbox_id"]}.exec.completed`,
    consumerOpts().orderedConsumer().deliverNew(),
  );
  void (async () => {
    for await (const message of subscription) {
      const at = performance.now();
      const { data } = JSON.parse(new TextDecoder().decode(message.data));
      arrived.set(data.exec_id, at);
      waiting.get(data.exec_id)?.(at);
    }
  })();
  const samples = [];
  for (let i = 0; i < n(300); i++) {
    const result = await publishing.call("exec_run", { sandbox_id: sandbox["sandbox_id"], argv: ["true"] });
    const answered = performance.now();
    const execId = result["exec_id"];
    /** @type {number} */
    const at = arrived.get(execId) ?? (await new Promise((resolve) => waiting.set(execId, resolve)));
    samples.push(Math.max(0, at - answered));
  }
  const ours = figure("exec.completed", samples);
  add({
    what: "tool result → event at a consumer",
    ours,
    goal: "p50 ≤ 5, p99 ≤ 20 ms",
    met: ours.p50 <= 5 && ours.p99 <= 20,
  });
  await nc.close();
  await publishing.call("sandbox_destroy", { sandbox_id: sandbox["sandbox_id"] });
  await publishing.close();
}
