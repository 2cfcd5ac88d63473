import type { Clock } from "./clock.ts";
import { type ExecRequest, FakeExec } from "./exec.ts";
import { FactLog } from "./fact-log.ts";
import { Fault } from "./fault.ts";
import { FakeFiles, workdir } from "./files.ts";
import { Lease } from "./lease.ts";
import { Notifier } from "./notifier.ts";

export interface FakeGuestOptions {
  sandboxId: string;
  uid: number;
  bootLeaseMs: number;
  clock: Clock;
  limits: { cpus: number; memory_mb: number; pids: number; workspace_mb: number };
  /** One line of the flight recorder. */
  record(line: string): void;
  exit(code: number): void;
}

const rememberedExecs = 128;
const exitCodes = { ttl: 80, idle: 81, boot: 82 } as const;

const mostChanges = 200;
const mostChangeBytes = 8 * 1024;

/** What goes along with a change. */
export interface Tell {
  id: string;
  op?: "edit";
  meta?: unknown;
  facts_after?: number;
}

interface Change {
  path: string;
  op: string;
  size_bytes: number | null;
}

/** What a real guest keeps, without processes. Its API is in routes.ts. */
export class FakeGuest {
  readonly options: FakeGuestOptions;
  readonly clock: Clock;
  readonly files = new FakeFiles();
  readonly facts: FactLog;
  readonly lease: Lease;
  readonly env = new Map<string, string>();
  readonly execs = new Map<string, FakeExec>();
  readonly #startedAt = new Date().toISOString();
  readonly #started: number;
  readonly #resumed = new Notifier();
  #paused = false;
  #over = false;
  #silent = false;
  #execsTotal = 0;
  #ooms = 0;

  constructor(options: FakeGuestOptions) {
    this.options = options;
    this.clock = options.clock;
    this.#started = options.clock.now();
    this.facts = new FactLog(options.record);
    this.facts.add("boot", { version: "memory", api: 1, sandbox_id: options.sandboxId });
    this.lease = new Lease(options.clock, options.bootLeaseMs, () => this.runningExecs > 0, {
      expiring: (lease, in_ms) => this.facts.add("lease.expiring", { lease, in_ms }),
      over: (lease) => {
        this.facts.add("lease.over", { lease, ...this.used() });
        this.end(exitCodes[lease]);
      },
    });
  }

  get runningExecs(): number {
    return [...this.execs.values()].filter(({ running }) => running).length;
  }

  start(id: string, request: ExecRequest): FakeExec {
    const known = this.execs.get(id);
    if (known) return known;
    this.refusePaused();
    const cwd = this.files.resolve(request.cwd ?? workdir);
    const errno = !this.files.has(cwd) ? "ENOENT" : this.files.stat(cwd).type !== "dir" ? "ENOTDIR" : undefined;
    if (errno) throw new Fault("EXEC_NOT_STARTED", `cwd ${cwd} is no directory`, { kind: "cwd", errno });
    const exec = new FakeExec(id, request, {
      clock: this.clock,
      cwd,
      env: { HOME: workdir, PATH: "/usr/bin:/bin", ...Object.fromEntries(this.env), ...request.env },
      files: {
        readFile: (path) => this.files.contents(path),
        writeFile: (path, bytes, append) => {
          const before = append ? this.files.contents(path) : undefined;
          this.files.write([{ path, bytes: before === undefined ? bytes : Buffer.concat([before, bytes]) }]);
        },
      },
      running: async () => {
        while (this.#paused) await this.#resumed.changed();
      },
      onEnd: (ended) => this.#ended(ended),
    });
    this.execs.set(id, exec);
    this.#execsTotal += 1;
    const { meta, tty } = request;
    const started = { exec_id: id, ...exec.told(this.env), tty: tty !== undefined, meta };
    this.facts.add("exec.started", { ...started, started_at: exec.view().started_at });
    this.lease.touch();
    return exec;
  }

  exec(id: string): FakeExec {
    const exec = this.execs.get(id);
    if (exec === undefined) throw new Fault("EXEC_NOT_FOUND", `no exec ${id}`);
    return exec;
  }

  pause(paused: boolean, tell?: Tell): void {
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.facts.add(paused ? "paused" : "resumed", tell && { change_id: tell.id, meta: tell.meta });
    this.#resumed.notify();
  }

  /** Records a change of files that a server wants told; returns what goes into the answer. */
  changed(tell: Tell | undefined, all: readonly Change[]): { facts?: ReturnType<FactLog["after"]> } {
    if (tell === undefined) return {};
    let room = mostChangeBytes;
    const beyond = all.findIndex(({ path }) => {
      room -= Buffer.byteLength(JSON.stringify(path));
      return room < 0;
    });
    const changes = all.slice(0, Math.min(beyond < 0 ? all.length : beyond, mostChanges));
    const omitted = all.length - changes.length;
    const { id: change_id, meta } = tell;
    if (all.length > 0) this.facts.add("files", { change_id, changes, ...(omitted > 0 && { omitted }), meta });
    return tell.facts_after === undefined ? {} : { facts: this.facts.after(tell.facts_after) };
  }

  refusePaused(): void {
    if (this.#paused) throw new Fault("PAUSED", "the sandbox is paused");
  }

  /** The end of PID 1: of its own accord, or with a code from outside. */
  end(code: number): void {
    if (this.#over) return;
    for (const exec of this.execs.values()) exec.kill("KILL", "sandbox");
    this.#stop();
    // Execs tell of their end in this turn's microtasks; then the process is gone.
    setImmediate(() => this.options.exit(code));
  }

  /** The end nobody inside notices: a crash or a kill from outside. No more facts. */
  vanish(): void {
    this.#silent = true;
    this.#stop();
    for (const exec of this.execs.values()) exec.kill("KILL", "sandbox");
  }

  #stop(): void {
    this.#over = true;
    this.lease.stop();
  }

  #ended(exec: FakeExec): void {
    if (this.#silent) return;
    const { cwd: _cwd, tty: _tty, pid: _pid, left_running: _left, started_at: _at, ...end } = exec.view();
    const { ended_at: _endedAt, stdout_kept: _stdout, stderr_kept: _stderr, ...fields } = end;
    if (fields.oom_kills > 0) {
      this.#ooms += 1;
      this.facts.add("oom", { oom_kills: this.#ooms, exec_id: exec.id });
    }
    if (fields.status === "timed_out") {
      const max = exec.request.timeout_ms ?? null;
      this.facts.add("limit", { limit: "time", observed: fields.duration_ms, max, exec_id: exec.id });
    }
    this.facts.add("exec.ended", { ...fields, meta: exec.request.meta });
    if (!this.#over) this.lease.touch();
    const ended = [...this.execs.values()].filter(({ running }) => !running);
    for (const old of ended.slice(0, -rememberedExecs)) this.execs.delete(old.id);
  }

  health() {
    const { sandboxId, uid } = this.options;
    return {
      ...{ api: 1, version: "memory", sandbox_id: sandboxId, pid: 1, started_at: this.#startedAt },
      ...{ uptime_ms: this.#uptimeMs(), uid, workdir, shell: "/bin/sh", arch: "memory" },
      ...{ state: this.#paused ? "paused" : "running", lease: this.lease.view() },
      facts: { oldest: this.facts.oldest, next: this.facts.next },
      execs: { running: this.runningExecs, total: this.#execsTotal },
    };
  }

  used() {
    const { cpu, memory } = this.stats();
    return { cpu_ms: cpu.usage_ms, peak_memory_bytes: memory.peak_bytes };
  }

  stats() {
    const { limits } = this.options;
    const mib = 1024 * 1024;
    return {
      ...{ sampled_at: new Date().toISOString(), uptime_ms: this.#uptimeMs() },
      cpu: { usage_ms: this.#execsTotal, throttled_ms: 0, limit_cpus: limits.cpus },
      memory: { used_bytes: mib, limit_bytes: limits.memory_mb * mib, peak_bytes: 2 * mib, oom_kills: this.#ooms },
      pids: { current: 1 + this.runningExecs, limit: limits.pids },
      workspace: { used_bytes: this.files.usedBytes, limit_bytes: limits.workspace_mb * mib },
      network: { rx_bytes: 0, tx_bytes: 0 },
      io: { read_bytes: null, write_bytes: null },
      execs: { running: this.runningExecs, total: this.#execsTotal },
      notes: ["io: nothing is read from or written to a disk"],
    };
  }

  #uptimeMs(): number {
    return Math.round(this.clock.now() - this.#started);
  }
}
