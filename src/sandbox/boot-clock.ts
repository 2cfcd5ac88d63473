import { uptime } from "node:os";
import { bootId } from "./store/processes.ts";
import type { BootTime } from "./store/types.ts";

/** A point on the host's boot clock, which counts suspend as guests do, and which no jump of the wall clock moves. */
export function bootTime(fromNowMs = 0): BootTime {
  return { boot_id: bootId(), uptime_ms: Math.round(uptime() * 1000) + fromNowMs };
}

/** When a lease of so many seconds ends, from now on, on both clocks. */
export function leaseEnd(ttlS: number): { expires_at: string; expires_boot: BootTime } {
  return { expires_at: new Date(Date.now() + ttlS * 1000).toISOString(), expires_boot: bootTime(ttlS * 1000) };
}

/** One moment on both clocks. */
export interface Now {
  wallMs: number;
  boot: BootTime;
}

/** What is left of a lease, below 0 when it is over; undefined when there is none. The wall clock serves where the boot is another. */
export function leaseLeftMs(
  lease: { expires_at?: string; expires_boot?: BootTime },
  now: Now = { wallMs: Date.now(), boot: bootTime() },
): number | undefined {
  if (lease.expires_boot?.boot_id === now.boot.boot_id) return lease.expires_boot.uptime_ms - now.boot.uptime_ms;
  return lease.expires_at === undefined ? undefined : Date.parse(lease.expires_at) - now.wallMs;
}
