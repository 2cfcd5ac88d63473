// @ts-check
import { atMost, atMostTimes } from "../lib/goals.mjs";
import { figure, inTurns, took } from "../lib/measure.mjs";
import { listen, rawStream, withNats } from "../lib/nats.mjs";
import { startServer, withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench */

/** @type {import("../lib/bench.mjs").Theme} */
export const events = {
  name: "events",
  title: "Events on their way to NATS",
  async run(bench) {
    await withNats((nats) => latency(bench, nats.url));
    await weather(bench);
  },
};

/** From the moment the tool's answer is here to the moment a consumer has the event; before it counts as zero. @param {Bench} bench @param {string} url */
async function latency(bench, url) {
  const n = bench.samples(500);
  await withServer({ env: { NATS_URL: url } }, async (server) => {
    const { sandbox_id: id } = await server.create();
    const subject = `chorus.sandbox.v1.*.*.${id}.exec.completed`;
    const consumer = await listen(url, subject, (text) => JSON.parse(text).data.exec_id);
    const samples = [];
    for (let i = -20; i < n; i++) {
      const { exec_id: execId } = await server.runTrue(id);
      const answered = performance.now();
      const waited = Math.max(0, (await consumer.arrival(execId)) - answered);
      if (i >= 0) samples.push(waited);
    }
    await consumer.close();
    const ours = figure("exec.completed", samples);
    const goals = [atMost(5), atMost(20, "p99")];
    const what = "tool result → event at a JetStream consumer";
    bench.row({ id: "events.latency", what, ours, floor: await publishFloor(url, n), goals });
  });
}

/** What the same costs with nothing in between: publish, and it is there. @param {string} url @param {number} n */
async function publishFloor(url, n) {
  const stream = await rawStream(url);
  const consumer = await listen(url, "bench.>", (text) => text);
  const samples = [];
  for (let i = -20; i < n; i++) {
    const started = performance.now();
    await stream.publish("bench.latency", `${i}`);
    const ms = (await consumer.arrival(`${i}`)) - started;
    if (i >= 0) samples.push(ms);
  }
  await Promise.all([consumer.close(), stream.close()]);
  return figure("publish → consumer", samples);
}

/** The same call in every weather: NATS unset, up, gone under way, and hung. @param {Bench} bench */
async function weather(bench) {
  await withNats((up) =>
    withNats((gone) =>
      withNats(async (hung) => {
        const names = ["NATS unset", "NATS up", "NATS gone", "NATS hung"];
        const urls = ["", up.url, gone.url, hung.url];
        const servers = await Promise.all(urls.map((url) => startServer({ env: { NATS_URL: url } })));
        try {
          const ids = await Promise.all(servers.map(async (server) => (await server.create())["sandbox_id"]));
          await gone.stop();
          process.kill(hung.pid, "SIGSTOP");
          const ways = servers.map(
            (server, at) => /** @type {const} */ ([names[at] ?? "", () => took(() => server.runTrue(ids[at] ?? ""))]),
          );
          const [unset, fine, down, stuck] = await inTurns(bench.samples(400), ways, { warmUp: 20 });
          if (!unset || !fine || !down || !stuck) return;
          const goals = [atMostTimes(1.1, "peer")];
          bench.row({ id: "events.unset", what: "exec of true, NATS unset", ours: unset });
          bench.row({ id: "events.up", what: "exec of true, NATS up", ours: fine, peer: unset });
          bench.row({ id: "events.gone", what: "exec of true, NATS gone", ours: down, peer: fine, goals });
          bench.row({ id: "events.hung", what: "exec of true, NATS hung", ours: stuck, peer: fine, goals });
        } finally {
          await Promise.all(servers.map((server) => server.close()));
        }
      }),
    ),
  );
}
