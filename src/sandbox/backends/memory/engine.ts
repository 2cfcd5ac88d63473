import { SandboxError } from "../../../errors.ts";
import type { BackendSpec, BackendStatus, EngineFact } from "../../backend.ts";
import { type Clock, realClock } from "./clock.ts";
import { FakeGuest } from "./guest.ts";
import { Notifier } from "./notifier.ts";
import { GuestServer } from "./serve.ts";

const keptLines = 1024;

export interface FakeSandbox {
  installId: string;
  spec: BackendSpec;
  guest: FakeGuest;
  server: GuestServer;
  lines: string[];
  status: BackendStatus;
}

/** What a container engine is to the docker backend: it outlives backends, and several installs may share one. */
export class MemoryEngine {
  readonly id: string;
  readonly clock: Clock;
  readonly sandboxes = new Map<string, FakeSandbox>();
  /** Facts since the beginning, for watchers to follow. */
  readonly #facts: { installId: string; fact: EngineFact }[] = [];
  readonly #changed = new Notifier();
  #unreachable = false;

  constructor(options: { id?: string; clock?: Clock } = {}) {
    this.id = options.id ?? "memory-engine";
    this.clock = options.clock ?? realClock;
  }

  /** Every call of every backend rejects while unreachable; watches break and tell of it afterwards. */
  unreachable(unreachable: boolean): void {
    this.#unreachable = unreachable;
    this.#changed.notify();
  }

  assertReachable(): void {
    if (this.#unreachable) throw new SandboxError("BACKEND_UNAVAILABLE", "The memory engine cannot be reached.");
  }

  /** The guest dies as if by itself, without a last word. */
  crash(sandboxId: string, exitCode = 139): void {
    this.#died(this.sandboxes.get(sandboxId), exitCode);
  }

  /** Breaks every connection to the guest, which lives on. */
  dropConnections(sandboxId: string): void {
    this.sandboxes.get(sandboxId)?.server.drop();
  }

  start(installId: string, spec: BackendSpec): void {
    const { sandbox_id } = spec;
    if (this.sandboxes.has(sandbox_id)) throw new SandboxError("CONFLICT", `Sandbox ${sandbox_id} exists already.`);
    const lines: string[] = [];
    const guest = new FakeGuest({
      sandboxId: sandbox_id,
      uid: spec.uid,
      bootLeaseMs: spec.boot_lease_ms,
      clock: this.clock,
      limits: { ...spec.resources },
      record: (line) => {
        lines.push(line);
        if (lines.length > keptLines) lines.shift();
      },
      exit: (code) => this.#died(this.sandboxes.get(sandbox_id), code),
    });
    const status: BackendStatus = {
      sandbox_id,
      state: "running",
      oom_killed: false,
      created_at: new Date().toISOString(),
    };
    this.sandboxes.set(sandbox_id, { installId, spec, guest, server: new GuestServer(guest), lines, status });
    this.#tell(installId, { kind: "started", sandbox_id });
  }

  kill(sandbox: FakeSandbox): void {
    this.#died(sandbox, 137);
  }

  remove(sandbox: FakeSandbox): void {
    this.kill(sandbox);
    this.sandboxes.delete(sandbox.spec.sandbox_id);
    this.#tell(sandbox.installId, { kind: "removed", sandbox_id: sandbox.spec.sandbox_id });
  }

  /** Facts from this call on, however late the first is taken. */
  watch(installId: string, signal: AbortSignal): AsyncIterable<EngineFact> {
    return this.#follow(installId, signal, this.#facts.length);
  }

  async *#follow(installId: string, signal: AbortSignal, start: number): AsyncGenerator<EngineFact> {
    const wake = (): void => this.#changed.notify();
    signal.addEventListener("abort", wake, { once: true });
    let at = start;
    let broken = false;
    try {
      while (!signal.aborted) {
        if (this.#unreachable) {
          broken = true;
          await this.#changed.changed();
          continue;
        }
        if (broken) {
          // What happened meanwhile is lost to this watcher.
          broken = false;
          at = this.#facts.length;
          yield { kind: "reconnected" };
          continue;
        }
        const next = this.#facts[at];
        if (next === undefined) await this.#changed.changed();
        else {
          at += 1;
          if (next.installId === installId) yield next.fact;
        }
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  #died(sandbox: FakeSandbox | undefined, exitCode: number): void {
    if (sandbox?.status.state !== "running") return;
    const { sandbox_id } = sandbox.spec;
    sandbox.guest.vanish();
    sandbox.status = { ...sandbox.status, state: "exited", exit_code: exitCode, finished_at: new Date().toISOString() };
    sandbox.server.drop();
    this.#tell(sandbox.installId, { kind: "died", sandbox_id, exit_code: exitCode });
  }

  #tell(installId: string, fact: EngineFact): void {
    this.#facts.push({ installId, fact });
    this.#changed.notify();
  }
}
