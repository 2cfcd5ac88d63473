import { findSandbox, withGuest } from "./access.ts";
import type { Call } from "./api.ts";
import type { Core, Used } from "./core.ts";
import type { Guest, GuestStats } from "./guest/types.ts";
import { requireInside } from "./lifecycle.ts";
import type { StatsView } from "./views.ts";
import { abortable, bounded } from "./wait.ts";

const answerMs = 10_000;
const lookedAtMs = 15_000;
const untold = "The sandbox did not tell its stats";
const hotShare = 0.8;
/** More than there are at once; others than the one who sampled them may tell of their ends. */
const mostRemembered = 500;

/** Stats of sandboxes, with the share of cpu since the sample before. */
export class StatsReader {
  readonly #core: Core;
  readonly #last = new WeakMap<Guest, { usageMs: number; uptimeMs: number }>();
  /** Reads under way: whoever asks meanwhile shares the answer. */
  readonly #reading = new Map<string, Promise<StatsView>>();
  /** When somebody last asked for one by name. */
  readonly #watched = new Map<string, number>();
  readonly #hot = new Set<string>();

  readonly #watchedForMs: number;

  /** @param watchedForMs how long a sandbox counts as looked at after it was asked for */
  constructor(core: Core, watchedForMs = lookedAtMs) {
    this.#core = core;
    this.#watchedForMs = watchedForMs;
  }

  async read(sandbox: string, call: Call): Promise<StatsView> {
    const record = findSandbox(this.#core, sandbox);
    requireInside(record);
    this.watched();
    this.#watched.set(record.sandbox_id, performance.now());
    return this.sample(record.sandbox_id, call.signal);
  }

  /** A fresh sample; those who ask at the same time cost the guest one answer. */
  async sample(sandboxId: string, signal?: AbortSignal): Promise<StatsView> {
    const underWay = this.#reading.get(sandboxId);
    if (underWay) return abortable(underWay, signal, untold);
    // Its own deadline: one who gives up must not take the answer from the others.
    const read = bounded(answerMs, (limit) =>
      withGuest(this.#core, sandboxId, limit, async (guest) => this.#view(guest, await guest.stats(limit)), {
        repeatable: true,
      }),
    );
    this.#reading.set(sandboxId, read);
    const done = () => void this.#reading.delete(sandboxId);
    read.then(
      (view) => {
        done();
        this.#remember(sandboxId, view);
        if (isHot(view)) this.#hot.add(sandboxId);
        else this.#hot.delete(sandboxId);
      },
      () => {
        done();
        this.#hot.delete(sandboxId);
      },
    );
    return abortable(read, signal, untold);
  }

  /** Sandboxes somebody asked for in the last while. */
  watched(): string[] {
    const since = performance.now() - this.#watchedForMs;
    for (const [id, at] of this.#watched) if (at < since) this.#watched.delete(id);
    return [...this.#watched.keys()];
  }

  /** Whether more is to be known of it than now and then: it is looked at, or ran near a limit when it was last looked at. */
  isOfInterest(sandboxId: string): boolean {
    return this.#hot.has(sandboxId) || this.watched().includes(sandboxId);
  }

  /** For the totals of one that ends without telling them. */
  #remember(sandboxId: string, stats: StatsView): void {
    const { lastUsed } = this.#core;
    lastUsed.delete(sandboxId);
    lastUsed.set(sandboxId, usedBy(stats));
    const [oldest] = lastUsed.keys();
    if (lastUsed.size > mostRemembered && oldest !== undefined) lastUsed.delete(oldest);
  }

  #view(guest: Guest, stats: GuestStats): StatsView {
    const last = this.#last.get(guest);
    const usageMs = stats.cpu.usage_ms;
    let usagePct: number | null = null;
    if (usageMs !== null) {
      const [spent, passed] = last
        ? [usageMs - last.usageMs, stats.uptime_ms - last.uptimeMs]
        : [usageMs, stats.uptime_ms];
      usagePct = passed > 0 && spent >= 0 ? Math.round((spent / passed) * 1000) / 10 : null;
      // Too short a time says nothing; the older sample stays the base.
      if (!last || passed >= 500) this.#last.set(guest, { usageMs, uptimeMs: stats.uptime_ms });
    }
    const { cpu, notes, ...rest } = stats;
    return { ...rest, cpu: { ...cpu, usage_pct: usagePct }, ...(notes.length > 0 && { notes }) };
  }
}

/** What a sandbox has used by a sample of it. */
export const usedBy = ({ cpu, memory }: Pick<GuestStats, "cpu" | "memory">): Used => ({
  cpu_ms: cpu.usage_ms === null ? null : Math.round(cpu.usage_ms),
  peak_memory_bytes: memory.peak_bytes,
});

/** Near its limit of memory or processor. */
function isHot({ memory, cpu }: StatsView): boolean {
  const share = (used: number | null, limit: number | null) => (used === null || !limit ? 0 : used / limit);
  return (
    share(memory.used_bytes, memory.limit_bytes) > hotShare ||
    share(cpu.usage_pct, (cpu.limit_cpus ?? 0) * 100) > hotShare
  );
}
