import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { EngineApi } from "../../../scripts/lib/engine-api.mjs";
import {
  enginePaths,
  restartPrivateEngine,
  startPrivateEngine,
  stopPrivateEngine,
} from "../../../scripts/lib/engine-private.mjs";
import { findProcesses, identityOf, isSameProcess } from "../../../scripts/lib/processes.mjs";
import { ensureTestImages } from "../../../scripts/lib/test-images.mjs";
import { eventually } from "../../support/server.ts";

/** An engine that nobody else uses, since it gets killed. */
export interface DoomedEngine extends AsyncDisposable {
  host: string;
  /** SIGKILL of the daemon alone, as a crash is; its containers run on until it is back. */
  kill(): Promise<void>;
  /** `keeps`: what runs survives, as operators configure it with live-restore; otherwise the engine ends it. */
  restart(keeps: boolean): Promise<void>;
  /** Names of the containers there are, running or not. */
  containers(): Promise<string[]>;
  /** Kills the PID 1 of a sandbox from the host; false when it does not run. */
  killGuest(sandboxId: string): boolean;
  /** Sandboxes whose processes are on the host, whatever the engine thinks. */
  guests(): string[];
}

export async function doomedEngine(): Promise<DoomedEngine> {
  const root = mkdtempSync("/tmp/chorus-chaos-");
  process.env["CHORUS_DEV_DIR"] = root;
  const paths = enginePaths(root);
  await ensureTestImages(await startPrivateEngine(paths));
  const api = new EngineApi(`unix://${paths.socket}`);
  const guests = (): { pid: number; id: string }[] =>
    findProcesses(({ args }) => args.includes("serve") && args.includes("--sandbox-id")).map((pid) => ({
      pid,
      id: sandboxOf(pid),
    }));
  return {
    host: api.host,
    async kill() {
      const pid = Number(readFileSync(paths.pid, "utf8"));
      const identity = identityOf(pid);
      process.kill(pid, "SIGKILL");
      await eventually("the engine is gone", () => identity !== undefined && !isSameProcess(identity));
    },
    restart: (keeps) => restartPrivateEngine(paths, keeps ? ["--live-restore"] : []),
    async containers() {
      const all = (await api.call("GET", "/containers/json", { query: { all: "1" } })).json() as { Names: string[] }[];
      return all.map(({ Names }) => (Names[0] ?? "").slice(1));
    },
    killGuest(sandboxId) {
      const found = guests().find(({ id }) => id === sandboxId);
      if (found) process.kill(found.pid, "SIGKILL");
      return found !== undefined;
    },
    guests: () => guests().map(({ id }) => id),
    async [Symbol.asyncDispose]() {
      await stopPrivateEngine(paths);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

function sandboxOf(pid: number): string {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return args[args.indexOf("--sandbox-id") + 1] ?? "";
  } catch {
    return "";
  }
}
