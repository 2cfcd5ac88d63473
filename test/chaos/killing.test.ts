import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../support/server.ts";
import { chance } from "./parts/chance.ts";
import { type DoomedEngine, doomedEngine } from "./parts/engine.ts";
import { filesWritten, load, nothingPromised, type Promised } from "./parts/load.ts";
import { nothingBefell, strike } from "./parts/mishaps.ts";
import { type DoomedNats, doomedNats } from "./parts/nats.ts";
import { openSessions, type Session } from "./parts/sessions.ts";
import {
  endFaults,
  fileFaults,
  promiseFaults,
  resultFaults,
  storyFaults,
  streamFaults,
  type Told,
} from "./parts/verdict.ts";

/** `npm run chaos` gives a time and a seed; in the test suite every kind of mishap strikes about once. */
const minutes = Number(process.env["CHAOS_MINUTES"] ?? 0);
const seed = Number(process.env["CHAOS_SEED"] ?? Date.now() % 1_000_000);
const strikeMs = (minutes * 60_000) / 2;

/** What a guest lives without a server's word; a claimed one would live longer than the test waits. */
const bootLeaseMs = 60_000;

const say = (what: string): void => void process.stdout.write(`  chaos: ${what}\n`);

describe("under load, while anything is killed at any moment", () => {
  let engine: DoomedEngine;
  let nats: DoomedNats;
  beforeAll(async () => {
    nats = await doomedNats();
    engine = await doomedEngine();
  });
  afterAll(async () => {
    await nats?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  it.each([2, 5])(
    "%i servers on one data dir lose nothing, double nothing, keep order, leave nothing behind and always answer",
    { timeout: strikeMs + 480_000 },
    async (count) => {
      say(`seed ${seed}, ${count} servers`);
      const foreign = await engine.containers();
      // One for each: who draws first is a matter of time, and the seed repeats the order of the kills.
      const dice = chance(seed + count);
      const fates = nothingBefell();
      await using sessions = await openSessions(count, {
        DOCKER_HOST: engine.host,
        CHORUS_SANDBOX_HOST: `host-${count}`,
        ...nats.env,
      });
      const ours = async () => (await nats.received()).filter(({ event }) => event.data["host"] === `host-${count}`);
      const promised = nothingPromised();
      const known = new Set<string>();
      const stop = new AbortController();
      const work = load({
        sessions: sessions.all,
        promised,
        fates,
        known,
        chance: chance(seed - count),
        signal: stop.signal,
      });
      await eventually("the first commands run", () => promised.execs.size > 2, 120_000);
      const began = performance.now();
      const passed = (): string => `${((performance.now() - began) / 1000).toFixed(1)} s`;
      const struck = await strike({ sessions, engine, nats, known, promised, fates }, dice, strikeMs, say);
      // All is mended: work goes on.
      const [execs, files] = [promised.execs.size, filesWritten(promised)];
      const again = () => promised.execs.size > execs + 10 && filesWritten(promised) > files + 5;
      await eventually("commands run and files are written again", again, 120_000);
      stop.abort();
      await work;
      say(`struck in ${passed()}: ${listed(struck.counts)}`);
      say(`calls: ${listed(sessions.outcomes)}; slowest ${sessions.slowestMs()} ms`);
      for (const error of struck.errors) say(`WRONG: ${String(error)}`);
      expect(struck.errors).toEqual([]);
      expect(sessions.wrong).toEqual([]);

      const last = dice.one(sessions.all);
      const ids = await endAll(last, promised);
      say(`all ended after ${passed()}`);
      await eventually(
        "nothing is left on the engine but what is warm",
        async () => {
          const warm = await sessions.warm();
          const left = (await engine.containers()).filter((name) => !foreign.includes(name));
          return left.every((name) => warm.some((id) => name.includes(id)));
        },
        60_000,
      );
      // An engine killed in the middle of a start forgets what it started: such a guest was never claimed, and its boot lease ends it.
      // (One of the pool, which has a longer one, is not among these ids.)
      await eventually(
        "no guest outlives its container and its boot lease",
        () => engine.guests().every((id) => !ids.includes(id)),
        bootLeaseMs + 10_000,
      );

      say(`nothing left after ${passed()}`);
      const journal = await readAll(last);
      const received = await eventually(
        "the stream has the newest of every sandbox",
        async () => {
          const there = await ours();
          return new Set(there.map(({ id }) => id)).size >= journal.length && there;
        },
        60_000,
      ).catch(ours);
      await eventually(
        "no gap is told any more",
        async () => (await last.call("sandbox_events", { after: "now", wait_s: 0 }))?.data["gap"] === undefined,
        30_000,
      );

      const warm = journal.filter((event) => event["warm"] === true).length;
      say(
        `all relayed after ${passed()}: ${filesWritten(promised)} files written, ${ids.length} sandboxes (${warm} were warm), ${promised.execs.size} execs answered, ${journal.length} events in the journal, ${received.length} in the stream`,
      );
      expect(sessions.wrong).toEqual([]);
      expect(storyFaults(journal)).toEqual([]);
      expect(promiseFaults(journal, promised)).toEqual([]);
      expect(endFaults(journal, promised, fates)).toEqual([]);
      expect(fileFaults(journal, promised, fates)).toEqual([]);
      expect(resultFaults(journal, promised)).toEqual([]);
      // One took the relay over from the one that was suspended.
      expect(sessions.relays()).toBeGreaterThan(1);
      expect(streamFaults(journal, received)).toEqual([]);
    },
  );
});

/** Destroys every sandbox there is, and waits until none lives; all ids there ever were. */
async function endAll(session: Session, { created, askedToEnd }: Promised): Promise<string[]> {
  let said = "";
  return await eventually(
    "every sandbox has ended",
    async () => {
      const answer = await session.call("sandbox_list", { include_ended: true, limit: 200 });
      const rows = (answer?.data["sandboxes"] ?? []) as { sandbox_id: string; state: string }[];
      const live = rows.filter(({ state }) => state !== "ended" && state !== "failed");
      said = `${answer?.text}`;
      for (const { sandbox_id } of live) {
        askedToEnd.add(sandbox_id);
        said += (await session.call("sandbox_destroy", { sandbox_id }))?.text;
      }
      return (
        answer !== undefined && live.length === 0 && [...new Set([...rows.map((row) => row.sandbox_id), ...created])]
      );
    },
    90_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${said}\n${session.log().slice(-4_000)}`);
  });
}

/** The whole journal, page by page. */
async function readAll(session: Session): Promise<Told[]> {
  const journal: Told[] = [];
  for (let after = "start"; ; ) {
    const answer = await session.call("sandbox_events", { after, limit: 200, wait_s: 0 });
    if (answer === undefined || answer.isError) throw new Error(`the journal cannot be read: ${answer?.text}`);
    const events = answer.data["events"] as Told[];
    // What NATS has not taken yet is told there, too; it gets a minute more.
    expect(answer.data["gap"] ?? "").not.toContain("no longer kept");
    journal.push(...events);
    if (events.length === 0) return journal;
    after = String(answer.data["next_cursor"]);
  }
}

const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([name, count]) => `${count} × ${name}`).join(", ");
