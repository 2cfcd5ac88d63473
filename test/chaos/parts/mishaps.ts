import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../support/server.ts";
import type { Chance } from "./chance.ts";
import type { DoomedEngine } from "./engine.ts";
import type { Promised } from "./load.ts";
import type { DoomedNats } from "./nats.ts";
import type { Session, Sessions } from "./sessions.ts";

export interface Victims {
  sessions: Sessions;
  engine: DoomedEngine;
  nats: DoomedNats;
  /** Sandboxes that may be alive. */
  known: ReadonlySet<string>;
  promised: Promised;
  fates: Fates;
}

/** What befell sandboxes, by id. */
export interface Fates {
  /** Their PID 1 was killed. */
  killed: Set<string>;
  /** They may have lived while the engine was away. */
  engineAway: Set<string>;
  /** How often the engine went away or came back: odd while it is away. */
  engineTurns: number;
  /** How often the disk of the data dir became full or got room: odd while it is full. */
  diskTurns: number;
}

export const nothingBefell = (): Fates => ({ killed: new Set(), engineAway: new Set(), engineTurns: 0, diskTurns: 0 });

/** Something that goes wrong, and is mended after a while. */
interface Mishap {
  name: string;
  /** What it befalls: nothing else befalls that until it is mended. */
  part: string;
  holdMs: number;
  strike(): unknown;
  mend?(): unknown;
}

type Kind = (victims: Victims, chance: Chance) => Mishap;

/** The relay's role is taken over from who is silent for 10 s. */
const pastTheRoleMs = 11_000;

const kinds: readonly Kind[] = [
  killServer,
  killServer,
  killServer,
  ({ sessions }, chance) => ({
    name: "server suspended past its roles",
    ...suspend(chance.one(sessions.all), chance),
  }),
  ({ sessions }, chance) => ({
    name: "relaying server suspended past its role and the duplicate window",
    ...suspend(sessions.relaying() ?? chance.one(sessions.all), chance),
  }),
  ({ sessions, fates }, chance) => ({
    name: "disk of the data dir full",
    part: "disk",
    holdMs: chance.between(300, 4_000),
    strike() {
      fates.diskTurns += 1;
      return sessions.fillDisk();
    },
    mend() {
      sessions.freeDisk();
      fates.diskTurns += 1;
    },
  }),
  ({ sessions }, chance) => {
    const session = chance.one(sessions.all);
    const jump = chance.one([-7_200_000, -60_000, 60_000, 7_200_000]);
    return {
      name: `clock of a server moved by ${jump / 1000} s`,
      part: `clock of ${session.name}`,
      holdMs: chance.between(500, 4_000),
      strike: () => session.moveClock(jump),
      mend: () => session.moveClock(0),
    };
  },
  ({ nats }, chance) => ({
    name: "nats-server killed",
    part: "nats",
    holdMs: chance.between(0, 2_000),
    strike: () => nats.kill(),
    mend: () => nats.restart(),
  }),
  ({ nats }, chance) => ({
    name: "nats-server hung",
    part: "nats",
    holdMs: chance.between(500, 7_000),
    strike: () => nats.hang(),
    mend: () => nats.wake(),
  }),
  ({ nats }, chance) => ({
    name: "right to publish revoked",
    part: "nats",
    holdMs: chance.between(300, 3_000),
    strike: () => nats.revoke("rights"),
    mend: () => nats.restore(),
  }),
  ({ nats }, chance) => ({
    name: "login revoked",
    part: "nats",
    holdMs: chance.between(300, 3_000),
    strike: () => nats.revoke("login"),
    mend: () => nats.restore(),
  }),
  ({ nats }, chance) => ({
    name: "stream full",
    part: "nats",
    holdMs: chance.between(300, 3_000),
    strike: () => nats.fill(),
    mend: () => nats.drain(),
  }),
  killGuest,
  killGuest,
  killEngine(true),
  killEngine(false),
];

function killEngine(keeps: boolean): Kind {
  return ({ engine, promised, fates }, chance) => {
    let over: ReadonlySet<string> = new Set();
    return {
      name: `engine killed, ${keeps ? "its containers survive" : "its containers end with its return"}`,
      part: "engine",
      holdMs: chance.between(0, 1_500),
      strike: () => {
        over = new Set(promised.destroyed);
        fates.engineTurns += 1;
        return engine.kill();
      },
      async mend() {
        await engine.restart(keeps);
        fates.engineTurns += 1;
        for (const id of promised.created) if (!over.has(id)) fates.engineAway.add(id);
      },
    };
  };
}

const suspend = (session: Session, chance: Chance): Omit<Mishap, "name"> => ({
  part: session.name,
  holdMs: pastTheRoleMs + chance.whole(1_500),
  strike: () => session.stop(),
  mend: () => session.wake(),
});

function killServer({ sessions }: Victims, chance: Chance): Mishap {
  const session = chance.one(sessions.all);
  return {
    name: "server killed",
    part: session.name,
    holdMs: chance.between(0, 1_500),
    strike: () => session.kill(),
    mend: () => session.restart(),
  };
}

function killGuest({ engine, known, fates }: Victims, chance: Chance): Mishap {
  const killed = () => {
    const id = chance.shuffled([...known]).find((one) => engine.killGuest(one));
    if (id !== undefined) fates.killed.add(id);
    return id !== undefined;
  };
  return { name: "guest killed", part: "guest", holdMs: 0, strike: () => eventually("there is one", killed, 60_000) };
}

export interface Struck {
  /** How often each thing went wrong. */
  counts: Map<string, number>;
  errors: unknown[];
}

/** Lets things go wrong, several at a time, each kind at least once and then until the time is over; mended at the end. */
export async function strike(
  victims: Victims,
  chance: Chance,
  forMs: number,
  say: (what: string) => void,
): Promise<Struck> {
  const struck: Struck = { counts: new Map(), errors: [] };
  const broken = new Set<string>();
  const mending: Promise<void>[] = [];
  const end = performance.now() + forMs;
  const befall = async ({ part, holdMs, strike, mend }: Mishap) => {
    try {
      await strike();
      await delay(holdMs);
      await mend?.();
    } catch (error) {
      struck.errors.push(error);
    } finally {
      broken.delete(part);
    }
  };
  for (let round = 0; round === 0 || performance.now() < end; round += 1) {
    for (const kind of chance.shuffled(kinds)) {
      if (round > 0 && performance.now() >= end) break;
      let mishap = kind(victims, chance);
      while (broken.has(mishap.part)) {
        await delay(50);
        mishap = kind(victims, chance);
      }
      broken.add(mishap.part);
      say(`${mishap.name} (${mishap.part}, ${Math.round(mishap.holdMs)} ms)`);
      struck.counts.set(mishap.name, (struck.counts.get(mishap.name) ?? 0) + 1);
      mending.push(befall(mishap));
      await delay(chance.between(100, 700));
    }
  }
  await Promise.all(mending);
  return struck;
}
