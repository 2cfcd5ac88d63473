// @ts-check
import { engine, rawSandbox, sameOptions } from "../lib/engine.mjs";
import { atMost, atMostTimes } from "../lib/goals.mjs";
import { eventually, figure, inTurns, must, took } from "../lib/measure.mjs";
import { SMALL, withServer } from "../lib/server.mjs";

/** @typedef {import("../lib/bench.mjs").Bench} Bench @typedef {import("../lib/server.mjs").Server} Server */

/** @type {import("../lib/bench.mjs").Theme} */
export const create = {
  name: "create",
  title: "New sandboxes",
  async run(bench) {
    await withServer({}, async (server) => {
      await cold(bench, server);
      await crowd(bench, server);
    });
    await withServer({ env: { CHORUS_SANDBOX_POOL: "2" } }, (server) => warm(bench, server));
  },
};

/** Create to first result: ours through MCP, and the same container asked of the engine directly. @param {Bench} bench @param {Server} server */
async function cold(bench, server) {
  const first = await server.create();
  const options = await sameOptions(first["sandbox_id"]);
  await server.destroy(first["sandbox_id"]);
  const [ours, raw] = await inTurns(bench.samples(20), [
    [
      "sandbox_create + exec_run",
      async () => {
        let id = "";
        const ms = await took(async () => {
          const sandbox = await server.create();
          must(sandbox["warm"] === false, "a cold create was served from a pool");
          id = sandbox["sandbox_id"];
          await server.runTrue(id);
        });
        await server.destroy(id);
        return ms;
      },
    ],
    [
      "engine create + start + exec",
      async () => {
        const started = performance.now();
        const made = await rawSandbox(options);
        const ms = performance.now() - started;
        await made.remove({ force: true });
        return ms;
      },
    ],
  ]);
  if (!ours || !raw) return;
  const what = "cold create → first exec";
  bench.row({ id: "create.cold", what, ours, engine: raw, goals: [atMostTimes(1.1)] });
}

/** Many at once, each until its first command has answered. @param {Bench} bench @param {Server} server */
async function crowd(bench, server) {
  const count = bench.quick ? 5 : 20;
  const first = await server.create(SMALL);
  const options = await sameOptions(first["sandbox_id"]);
  await server.destroy(first["sandbox_id"]);
  const all = (/** @type {() => Promise<unknown>} */ one) => Promise.all(Array.from({ length: count }, one));
  const [ours, raw] = await inTurns(
    bench.samples(3, 1),
    [
      [
        `${count} × sandbox_create + exec_run`,
        async () => {
          const ms = await took(() => all(async () => server.runTrue((await server.create(SMALL))["sandbox_id"])));
          await server.destroyAll();
          return ms;
        },
      ],
      [
        `${count} × engine create + start + exec`,
        async () => {
          /** @type {import("dockerode").Container[]} */
          const made = [];
          const ms = await took(() => all(async () => made.push(await rawSandbox(options))));
          await Promise.all(made.map((container) => container.remove({ force: true })));
          return ms;
        },
      ],
    ],
    { warmUp: 0 },
  );
  if (!ours || !raw) return;
  const what = `${count} creates at once, each with its first exec`;
  bench.row({ id: "create.crowd", what, ours, engine: raw, goals: [atMostTimes(1.1)] });
}

/** A sandbox of the pool: its create, and its first command. Each waits until the pool is full again. @param {Bench} bench @param {Server} server */
async function warm(bench, server) {
  // The first create opens engine and store, and with them the pool.
  const opener = await server.create();
  const creates = [];
  const usable = [];
  let cold = 0;
  for (let i = 0; i < bench.samples(30); i++) {
    const full = await poolIsFull(server, 1, i === 0 ? 10_000 : 5_000);
    if (!full && i === 0) {
      return bench.skip("warm creates: no warm sandbox appeared within 10 s of CHORUS_SANDBOX_POOL=2");
    }
    const started = performance.now();
    const sandbox = await server.create();
    const created = performance.now();
    await server.runTrue(sandbox["sandbox_id"]);
    if (sandbox["warm"]) {
      creates.push(created - started);
      usable.push(performance.now() - started);
    } else cold += 1;
    await server.destroy(sandbox["sandbox_id"]);
  }
  await server.destroy(opener["sandbox_id"]);
  if (usable.length === 0) return bench.skip("warm creates: a pool was there, and no create was served from it");
  const note = cold > 0 ? `${cold} more found the pool empty` : undefined;
  const row = { goals: [atMost(8)], ...(note && { note }) };
  bench.row({ id: "create.warm", what: "warm create", ours: figure("sandbox_create", creates), ...row });
  const ours = figure("sandbox_create + exec_run", usable);
  bench.row({ id: "create.warm-exec", what: "warm create → first exec", ours, ...row });
}

/** Two ready ones beside those in use. @param {Server} server @param {number} inUse @param {number} withinMs */
async function poolIsFull(server, inUse, withinMs) {
  const looks = () =>
    eventually(
      "the pool is full",
      async () => {
        const running = await engine().listContainers({ filters: { label: [server.label()], status: ["running"] } });
        return running.length >= inUse + 2;
      },
      { withinMs, everyMs: 50 },
    );
  return looks().then(
    () => true,
    () => false,
  );
}
