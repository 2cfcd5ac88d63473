// @ts-check
import { setTimeout as delay } from "node:timers/promises";
import { hostPid } from "../lib/engine.mjs";
import { atMost } from "../lib/goals.mjs";
import { figure, parallel, timed } from "../lib/measure.mjs";
import { withNats } from "../lib/nats.mjs";
import { cpuMs, rssMb } from "../lib/proc.mjs";
import { SMALL, withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench @typedef {import("../lib/server.mjs").Server} Server */

/** Idle sandboxes take little of what they may: their limits together may be more than the host has. */
const POLICY = { maxima: { sandboxes: 10_000, memory_total_pct: 1_000 } };

/** @type {import("../lib/bench.mjs").Theme} */
export const density = {
  name: "density",
  title: "Many idle sandboxes",
  run: (bench) =>
    withNats(({ url }) =>
      withServer({ policy: POLICY, env: { NATS_URL: url } }, async (server) => {
        const most = bench.sandboxes;
        /** @type {string[]} */
        const ids = [];
        for (const count of [1, 10, 50, 200].filter((step) => step < most).concat(most)) {
          await parallel(count - ids.length, 4, async () => {
            ids.push((await server.create(SMALL))["sandbox_id"]);
          });
          await step(bench, server, ids, count === most);
        }
      }),
    ),
};

/** @param {Bench} bench @param {Server} server @param {string[]} ids @param {boolean} isLast */
async function step(bench, server, ids, isLast) {
  const count = ids.length;
  const pids = await Promise.all(ids.map(hostPid));
  const cpu = await idleCpu(server.pid, pids, isLast && !bench.quick ? 30_000 : 3_000);
  const keeperMb = rssMb(server.pid);
  const guestMb = pids.map((pid) => rssMb(pid));

  const n = bench.samples(100);
  const id = ids[0] ?? "";
  const run = await timed("exec_run", n, () => server.runTrue(id));
  const list = await timed("sandbox_list", n, () => server.call("sandbox_list", { limit: 20 }));
  const one = await timed(
    "sandbox_create",
    3,
    async () => {
      const { sandbox_id: extra } = await server.create(SMALL);
      await server.destroy(extra);
    },
    { warmUp: 0 },
  );
  bench.point("sandboxes-time", "exec_run", count, run.p50);
  bench.point("sandboxes-time", "sandbox_list, 20 rows", count, list.p50);
  bench.point("sandboxes-time", "cold sandbox_create + sandbox_destroy", count, one.p50);
  bench.point("sandboxes-memory", "the server", count, keeperMb);
  bench.point(
    "sandboxes-memory",
    "all guests together",
    count,
    guestMb.reduce((sum, mb) => sum + mb, 0),
  );
  if (!isLast) return;

  const what = `${count} idle sandboxes`;
  const rss = figure("server", [keeperMb], "MiB");
  bench.row({ id: "density.keeper-rss", what: `${what}: RSS of the keeper`, ours: rss, goals: [atMost(200)] });
  const note = `all guests together: ${cpu.guests.toFixed(1)} %`;
  const share = figure("server", [cpu.server], "%");
  bench.row({ id: "density.keeper-cpu", what: `${what}: CPU of the keeper`, ours: share, goals: [atMost(2)], note });
  const guest = figure("guest", guestMb, "MiB");
  const anonymous = figure(
    "",
    pids.map((pid) => rssMb(pid, "RssAnon")),
  ).p50.toFixed(1);
  bench.row({
    id: "density.guest-rss",
    what: `${what}: RSS of each guest`,
    ours: guest,
    goals: [atMost(8)],
    note: `${anonymous} MiB of it its own, the rest the program, shared by all`,
  });
}

/** Percent of one core over some time in which nobody asks for anything. @param {number} server @param {number[]} guests @param {number} ms */
async function idleCpu(server, guests, ms) {
  // What the calls before it left to do is not idling.
  await delay(1_000);
  const guestsMs = () => guests.reduce((sum, pid) => sum + cpuMs(pid), 0);
  const [serverBefore, guestsBefore, started] = [cpuMs(server), guestsMs(), performance.now()];
  await delay(ms);
  const percent = (/** @type {number} */ used) => (100 * used) / (performance.now() - started);
  return { server: percent(cpuMs(server) - serverBefore), guests: percent(guestsMs() - guestsBefore) };
}
