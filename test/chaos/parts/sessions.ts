import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { errorCodes } from "../../../src/errors.ts";
import { openStore } from "../../../src/sandbox/store/index.ts";
import { type Answer, eventually, startServer, type TestServer } from "../../support/server.ts";

/** No call may take longer than what it may wait by its own words, and what a stopped or starved process adds. */
const answerLimitMs = 90_000;

/** Room for the journal's bound and for its pages that are not used again yet. */
const diskMb = 1024;

/** One client session: a server process over stdio, which comes back under another pid when it was killed. */
export interface Session {
  readonly name: string;
  readonly isUp: boolean;
  /** Undefined when the server was killed under the call. */
  call(tool: string, args: Record<string, unknown>): Promise<Answer | undefined>;
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): void;
  wake(): void;
  moveClock(ms: number): void;
  /** What its servers wrote to stderr, the newest. */
  log(): string;
}

export interface Sessions extends AsyncDisposable {
  readonly all: Session[];
  /** Calls that were not answered as promised. */
  readonly wrong: string[];
  /** Calls by how they ended: `ok`, an error code, or `cut` by a kill. */
  readonly outcomes: Map<string, number>;
  readonly slowestMs: () => number;
  /** Whose server was the last to take over the relay, and how often that happened. */
  relaying(): Session | undefined;
  relays(): number;
  /** Sandboxes that are kept ready ahead of their use. */
  warm(): Promise<string[]>;
  /** Leaves no room for a byte on the disk of the data dir, and makes room again. */
  fillDisk(): Promise<unknown>;
  freeDisk(): void;
}

/** So many client sessions on one data dir. */
export async function openSessions(count: number, env: Record<string, string>): Promise<Sessions> {
  const folder = mkdtempSync(path.join(tmpdir(), "chorus-chaos-data-"));
  const dataDir = path.join(folder, "data");
  mkdirSync(dataDir);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskMb}m,mode=700`, "tmpfs", dataDir]);
  const resize = (size: string) =>
    spawnSync("mount", ["-o", `remount,size=${size}`, dataDir], { timeout: 5_000 }).status === 0;
  let relaying: Session | undefined;
  let relays = 0;
  const wrong: string[] = [];
  const complain = (what: string): void => {
    wrong.push(what);
    process.stdout.write(`  chaos: WRONG: ${what}\n`);
  };
  const outcomes = new Map<string, number>();
  let slowest = 0;
  const ended = (outcome: string) => void outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  const all = await Promise.all(
    Array.from({ length: count }, async (_, index): Promise<Session & { close(): Promise<void> }> => {
      const clockFile = path.join(folder, `clock-${index}`);
      const start = () =>
        startServer({
          dataDir,
          name: `chaos-${index}`,
          onLog: (words) => {
            if (!words.includes("relaying events to NATS")) return;
            relaying = session;
            relays += 1;
          },
          env: {
            ...env,
            CHAOS_CLOCK_FILE: clockFile,
            CHORUS_SANDBOX_POOL: "1",
            LOG_LEVEL: "info",
            NODE_OPTIONS: `--import ${path.join(import.meta.dirname, "moved-clock.mjs")}`,
          },
        });
      let isUp = true;
      let wakeCallers: () => void = () => {};
      let back: Promise<void> = Promise.resolve();
      const session: Session & { close(): Promise<void> } = {
        name: `server ${index}`,
        get isUp() {
          return isUp;
        },
        async call(tool, args) {
          await back;
          const asked = server;
          const began = performance.now();
          try {
            const answer = await asked.call(tool, args, { timeoutMs: answerLimitMs });
            slowest = Math.max(slowest, performance.now() - began);
            const code = answer.error?.code;
            ended(answer.isError ? (code ?? "without a code") : "ok");
            if (
              answer.isError &&
              (code === undefined || code === "INTERNAL" || !errorCodes.some((known) => known === code))
            )
              complain(`${tool} failed with ${answer.text.slice(0, 500)}`);
            return answer;
          } catch (error) {
            // Not the same any more: it was killed while it worked.
            if (asked !== server || !isUp) ended("cut");
            else complain(`${tool} was not answered: ${String(error).slice(0, 300)}\n${asked.log().slice(-2_000)}`);
            return undefined;
          }
        },
        async kill() {
          isUp = false;
          back = new Promise((resolve) => {
            wakeCallers = resolve;
          });
          await server.kill();
        },
        async restart() {
          server = await start();
          isUp = true;
          wakeCallers();
        },
        stop: () => void process.kill(server.pid, "SIGSTOP"),
        wake: () => void process.kill(server.pid, "SIGCONT"),
        moveClock: (ms) => writeFileSync(clockFile, String(ms)),
        log: () => server.log(),
        close: async () => server[Symbol.asyncDispose](),
      };
      let server: TestServer = await start();
      return session;
    }),
  );
  return {
    all,
    wrong,
    outcomes,
    slowestMs: () => Math.round(slowest),
    relaying: () => relaying,
    relays: () => relays,
    async warm() {
      await using store = await openStore({ dataDir, host: "chaos" });
      return store.pool().map(({ sandbox_id }) => sandbox_id);
    },
    fillDisk: () =>
      eventually("the disk is as small as what is on it", () => {
        const { bsize, blocks, bfree } = statfsSync(dataDir);
        return resize(`${((blocks - bfree) * bsize) / 1024}k`);
      }),
    freeDisk() {
      if (!resize(`${diskMb}m`)) throw new Error("the disk of the data dir cannot be made larger again");
    },
    async [Symbol.asyncDispose]() {
      for (const session of all) await session.close();
      // The last of them may still be closing its store.
      await eventually("the disk of the data dir is free", () => spawnSync("umount", [dataDir]).status === 0);
      rmSync(folder, { recursive: true });
    },
  };
}
