import type { StatsReader } from "./observe.ts";
import type { SandboxRecord } from "./store/types.ts";
import type { StatsView } from "./views.ts";
import { deadline, pause } from "./wait.ts";

/** Samples every running sandbox in turn until the signal aborts. Failures are the readers' of facts to notice. */
export async function sampleAll(
  mine: () => SandboxRecord[],
  stats: StatsReader,
  onStats: (record: SandboxRecord, stats: StatsView) => void,
  sampleMs: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await pause(sampleMs, signal);
    const running = mine().filter((record) => record.state !== "creating");
    await Promise.allSettled(
      running.map(async (record) => onStats(record, await stats.sample(record.sandbox_id, deadline(5_000)))),
    );
  }
}
