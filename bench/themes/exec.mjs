// @ts-check
import { setTimeout as delay } from "node:timers/promises";
import { engine, hostPid, rawExec } from "../lib/engine.mjs";
import { atMost, fasterThanEngine } from "../lib/goals.mjs";
import { withGuest } from "../lib/guest.mjs";
import { forkExec, forkExecAtOnce } from "../lib/host.mjs";
import { eventually, figure, must, timed } from "../lib/measure.mjs";
import { cgroupProcesses } from "../lib/proc.mjs";
import { withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench @typedef {import("../lib/server.mjs").Server} Server */

/** @type {import("../lib/bench.mjs").Theme} */
export const exec = {
  name: "exec",
  title: "Commands",
  async run(bench) {
    await withServer({}, async (server) => {
      const { sandbox_id: id } = await server.create({ pids: 512 });
      await one(bench, server, id);
      await many(bench, server, id);
      await deadline(bench, server, id);
    });
  },
};

/** @param {Bench} bench @param {Server} server @param {string} id */
async function one(bench, server, id) {
  const floor = forkExec(bench.samples(30));
  const container = engine().getContainer(id);
  const ours = await timed("exec_run", bench.samples(500), () => server.runTrue(id));
  const raw = await timed("docker exec", bench.samples(30), () => rawExec(container), { warmUp: 2 });
  const goals = [atMost(2.5), fasterThanEngine(30)];
  bench.row({ id: "exec.true", what: "exec of true through MCP", ours, engine: raw, floor, goals });
  await withGuest(id, async (guest) => {
    const alone = await timed("guest exec", bench.samples(500), async (i) => {
      const snapshot = await guest.startExec(`ex_bench${i}`, { argv: ["true"] }, { wait_ms: 5_000 });
      must(snapshot.exec.exit_code === 0, "true failed in the guest");
    });
    bench.row({ id: "exec.guest", what: "guest exec alone", ours: alone, floor, goals: [atMost(1.5)] });
  });
}

/** 1, 10 and 100 commands at once, each with an answer of its own. @param {Bench} bench @param {Server} server @param {string} id */
async function many(bench, server, id) {
  const container = engine().getContainer(id);
  const counts = bench.quick ? [1, 5, 20] : [1, 10, 100];
  for (const count of counts) {
    const rounds = bench.samples(10, 3);
    const ours = await timed(`${count} exec_run at once`, rounds, () => ownAnswers(server, id, count), { warmUp: 1 });
    const floor = await timed(`${count} fork + exec at once`, rounds, () => forkExecAtOnce(count), { warmUp: 1 });
    // Five seconds and more for a hundred: once is enough.
    const rawRounds = count >= 100 ? 1 : 3;
    const rawAll = () => Promise.all(Array.from({ length: count }, () => rawExec(container)));
    const raw = await timed(`${count} docker exec at once`, rawRounds, rawAll, { warmUp: 0 });
    bench.point("execs-at-once", "exec_run", count, ours.p50);
    bench.point("execs-at-once", "docker exec", count, raw.p50);
    bench.point("execs-at-once", "fork + exec on the host", count, floor.p50);
    if (count !== counts.at(-1)) continue;
    const what = `${count} commands at once, all answered`;
    bench.row({ id: "exec.many", what, ours, engine: raw, floor, goals: [atMost(1_500)] });
  }
}

/** @param {Server} server @param {string} id @param {number} count */
async function ownAnswers(server, id, count) {
  const answers = await Promise.all(
    Array.from({ length: count }, (_, n) =>
      server.call("exec_run", { sandbox_id: id, command: `echo answer ${n}; exit ${n}` }),
    ),
  );
  for (const [n, answer] of answers.entries()) {
    const own = answer["stdout"] === `answer ${n}\n` && answer["exit_code"] === n;
    must(own, `command ${n} of ${count} got ${JSON.stringify(answer["stdout"])}, exit ${answer["exit_code"]}`);
  }
}

/** A tree that ignores what can be ignored and has left its session, seen dying from the host. @param {Bench} bench @param {Server} server @param {string} id */
async function deadline(bench, server, id) {
  const processes = cgroupProcesses(await hostPid(id));
  if (!processes)
    return bench.skip("a tree's end after its deadline: the engine's processes are not visible from here");
  const before = processes();
  const tree = () => [...processes()].filter((pid) => !before.has(pid)).length;
  const stubborn = "trap '' TERM HUP INT; while :; do sleep 60; done";
  const command = `for i in 1 2 3 4 5; do (setsid sh -c "${stubborn}" &); done; ${stubborn}`;
  const samples = [];
  for (let i = 0; i < bench.samples(10, 2); i++) {
    const timeoutS = 2;
    const due = performance.now() + timeoutS * 1_000;
    const ended = server.call("exec_run", { sandbox_id: id, command, timeout_s: timeoutS, wait_s: 30 });
    await eventually("the tree is there", () => tree() >= 12);
    await delay(Math.max(0, due - 50 - performance.now()));
    // Looked at before the clock: a machine that stalls here says nothing about the tree.
    const isThere = tree() >= 12;
    must(isThere || performance.now() >= due, "the tree ended before its deadline");
    await eventually("the tree is gone", () => tree() === 0, { everyMs: 1 });
    samples.push(performance.now() - due);
    must((await ended)["status"] === "timed_out", "the command did not time out");
  }
  const ours = figure("last process gone", samples);
  bench.row({ id: "exec.deadline", what: "a tree is gone after its deadline", ours, goals: [atMost(200)] });
}
