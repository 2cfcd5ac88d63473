import type { Clock } from "./clock.ts";
import { Fault } from "./fault.ts";

export type LeaseKind = "ttl" | "idle" | "boot";

interface LeaseEvents {
  expiring(kind: "ttl" | "idle", inMs: number): void;
  over(kind: LeaseKind): void;
}

/** Counts down what the server last allowed, and tells when it is over. */
export class Lease {
  readonly #clock: Clock;
  readonly #events: LeaseEvents;
  readonly #hasRunning: () => boolean;
  #claimed = false;
  #ended = false;
  #holder = "";
  #ttlEnd: number;
  #ttlWarn = Number.POSITIVE_INFINITY;
  #idleMs: number | undefined;
  #idleEnd = Number.POSITIVE_INFINITY;
  #idleWarn = Number.POSITIVE_INFINITY;
  #cancel: () => void = () => {};

  constructor(clock: Clock, bootMs: number, hasRunning: () => boolean, events: LeaseEvents) {
    this.#clock = clock;
    this.#hasRunning = hasRunning;
    this.#events = events;
    this.#ttlEnd = clock.now() + bootMs;
    this.#schedule();
  }

  set(lease: { ttl_ms?: number; idle_ms?: number; boot_ms?: number; claim?: string }): void {
    if (this.#ended) throw new Fault("ENDING", "its lease is over");
    const now = this.#clock.now();
    const taken = this.#claimed || this.#holder !== "";
    if (taken && (lease.claim === undefined ? lease.boot_ms !== undefined : lease.claim !== this.#holder)) {
      throw new Fault("CLAIMED", "another claim holds this sandbox");
    }
    this.#holder = lease.claim ?? this.#holder;
    if (lease.ttl_ms === undefined && lease.idle_ms === undefined) {
      if (!this.#claimed && lease.boot_ms !== undefined) this.#ttlEnd = now + lease.boot_ms;
      this.#schedule();
      return;
    }
    if (!this.#claimed) this.#ttlEnd = Number.POSITIVE_INFINITY;
    this.#claimed = true;
    if (lease.ttl_ms !== undefined) {
      this.#ttlEnd = now + lease.ttl_ms;
      this.#ttlWarn = this.#ttlEnd - warning(lease.ttl_ms);
    }
    if (lease.idle_ms !== undefined) this.#idleMs = lease.idle_ms;
    this.touch();
  }

  /** Something happened that counts as use. */
  touch(): void {
    if (this.#idleMs !== undefined) {
      this.#idleEnd = this.#clock.now() + this.#idleMs;
      this.#idleWarn = this.#idleEnd - warning(this.#idleMs);
    }
    this.#schedule();
  }

  view() {
    const now = this.#clock.now();
    const left = (end: number) => (end === Number.POSITIVE_INFINITY ? null : Math.max(0, Math.round(end - now)));
    const idle = this.#hasRunning() ? (this.#idleMs ?? null) : left(this.#idleEnd);
    return { claimed: this.#claimed, ttl_remaining_ms: left(this.#ttlEnd), idle_remaining_ms: idle };
  }

  stop(): void {
    this.#cancel();
  }

  #schedule(): void {
    this.#cancel();
    const next = Math.min(this.#ttlEnd, this.#ttlWarn, this.#idleEnd, this.#idleWarn);
    if (next === Number.POSITIVE_INFINITY) return;
    this.#cancel = this.#clock.after(next - this.#clock.now(), () => this.#due());
  }

  #due(): void {
    // Timers may fire a fraction early.
    const now = this.#clock.now() + 1;
    const over = this.#overAt(now);
    if (over !== undefined) {
      this.#ended = true;
      this.#events.over(over);
      return;
    }
    if (now >= this.#ttlWarn) {
      this.#ttlWarn = Number.POSITIVE_INFINITY;
      this.#events.expiring("ttl", Math.max(0, Math.round(this.#ttlEnd - this.#clock.now())));
    }
    if (this.#hasRunning()) {
      this.touch();
      return;
    }
    if (now >= this.#idleWarn) {
      this.#idleWarn = Number.POSITIVE_INFINITY;
      this.#events.expiring("idle", Math.max(0, Math.round(this.#idleEnd - this.#clock.now())));
    }
    this.#schedule();
  }

  #overAt(now: number): LeaseKind | undefined {
    if (now >= this.#ttlEnd) return this.#claimed ? "ttl" : "boot";
    return now >= this.#idleEnd && !this.#hasRunning() ? "idle" : undefined;
  }
}

const warning = (ms: number): number => Math.min(60_000, ms / 10);
