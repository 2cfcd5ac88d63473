import type { Clock } from "./clock.ts";
import type { Io } from "./commands.ts";
import { Fault } from "./fault.ts";
import { Input } from "./input.ts";
import { Notifier } from "./notifier.ts";
import { isProgram, runProgram, runShell } from "./shell.ts";
import { Spool } from "./spool.ts";

export interface ExecRequest {
  argv?: string[];
  command?: string;
  cwd?: string;
  env?: Record<string, string>;
  stdin?: string;
  stdin_base64?: string;
  keep_stdin?: boolean;
  tty?: { rows: number; cols: number };
  merge_stderr?: boolean;
  timeout_ms?: number;
  meta?: unknown;
}

export interface Surroundings {
  clock: Clock;
  cwd: string;
  env: Record<string, string>;
  files: Pick<Io, "readFile" | "writeFile">;
  /** Resolves at once unless the sandbox is paused. */
  running(): Promise<void>;
  onEnd(exec: FakeExec): void;
}

/** Why an exec ends before its program does. */
class Ended extends Error {
  readonly status: "killed" | "timed_out" | "oom_killed";
  readonly by: string;
  readonly signal: string;

  constructor(status: Ended["status"], by: string, signal: string) {
    super(status);
    this.status = status;
    this.by = by;
    this.signal = signal;
  }
}

let nextPid = 100;

/** An exec without a process: its program is a function of this module's neighbours. */
export class FakeExec {
  readonly id: string;
  readonly request: ExecRequest;
  readonly stdin = new Input();
  readonly spools = { stdout: new Spool(), stderr: new Spool() };
  readonly changed = new Notifier();
  readonly #around: Surroundings;
  readonly #stop = new AbortController();
  readonly #startedAt = new Date().toISOString();
  readonly #started: number;
  readonly #pid = nextPid++;
  #children = 0;
  #end: { status: string; code: number | null; signal: string | null; by: string; at: string; ms: number } | undefined;

  constructor(id: string, request: ExecRequest, around: Surroundings) {
    const program = request.argv?.[0];
    if ((program === undefined) === (request.command === undefined)) {
      throw new Fault("INVALID_ARGUMENT", "exactly one of argv and command");
    }
    if (program !== undefined && !isProgram(program)) {
      throw new Fault("EXEC_NOT_STARTED", `${program}: no such program`, { errno: "ENOENT" });
    }
    this.id = id;
    this.request = request;
    this.#around = around;
    this.#started = around.clock.now();
    this.stdin.push(Buffer.from(request.stdin ?? "", "utf8"));
    this.stdin.push(Buffer.from(request.stdin_base64 ?? "", "base64"));
    if (request.keep_stdin !== true && request.tty === undefined) this.stdin.end();
    const cancel =
      request.timeout_ms === undefined
        ? () => {}
        : around.clock.after(request.timeout_ms, () => this.#stop.abort(new Ended("timed_out", "timeout", "KILL")));
    void this.#run().finally(cancel);
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  /** What a fact shows of the words and of where they ran: without values of the sandbox's env and of its own. */
  told(env: ReadonlyMap<string, string>): { command: string; cwd: string } {
    const secrets = [...env.values(), ...Object.values(this.request.env ?? {})]
      .filter((value) => value.length >= 5)
      .sort((a, b) => b.length - a.length);
    const hidden = (text: string) => secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), text);
    const words = this.request.command ?? (this.request.argv ?? []).join(" ");
    return { command: hidden(words).slice(0, 256), cwd: hidden(this.#around.cwd) };
  }

  /** Ends the tree: the main program and what it left running. */
  kill(signal: string, by: string): void {
    this.#stop.abort(new Ended("killed", by, signal));
  }

  /** Resolves when neither the main program nor anything it left runs. */
  async gone(): Promise<void> {
    while (this.running || this.#children > 0) await this.changed.changed();
  }

  async #run(): Promise<void> {
    const stopped = new Promise<never>((_resolve, reject) => {
      this.#stop.signal.addEventListener("abort", () => reject(this.#stop.signal.reason), { once: true });
    });
    stopped.catch(() => {});
    // A program starts in a later turn, as a process would.
    const program = this.#around.running().then(() => this.#program());
    try {
      const code = await Promise.race([program, stopped]);
      this.#finish({ status: "exited", code, signal: null, by: "self" });
    } catch (error) {
      if (error instanceof Ended) {
        this.#finish({ status: error.status, code: null, signal: error.signal, by: error.by });
        return;
      }
      this.spools.stderr.add(Buffer.from(`sh: ${error instanceof Error ? error.message : String(error)}\n`));
      this.#finish({ status: "exited", code: 1, signal: null, by: "self" });
    }
  }

  async #program(): Promise<number> {
    const io = this.#io();
    const { argv, command } = this.request;
    const code = argv === undefined ? await runShell(command ?? "", io) : await runProgram(argv, io);
    await this.#around.running();
    return code ?? 127;
  }

  #io(): Io & { background: (job: Promise<unknown>) => void } {
    const { clock, cwd, env, files } = this.#around;
    const signal = this.#stop.signal;
    const write = (stream: "stdout" | "stderr") => (bytes: Buffer) => {
      if (signal.aborted) throw signal.reason;
      this.spools[stream].add(Buffer.from(bytes));
      this.changed.notify();
    };
    return {
      cwd,
      env,
      stdin: this.stdin,
      ...files,
      out: write("stdout"),
      err: write(this.request.merge_stderr === true ? "stdout" : "stderr"),
      sleep: async (ms) => {
        await new Notifier().until(() => false, ms, clock, signal);
        if (signal.aborted) throw signal.reason;
        await this.#around.running();
      },
      die: (how) => {
        throw how === "oom" ? new Ended("oom_killed", "oom", "KILL") : new Ended("killed", "self", "KILL");
      },
      background: (job) => {
        this.#children += 1;
        const done = (): void => {
          this.#children -= 1;
          this.changed.notify();
        };
        job.then(done, done);
      },
    };
  }

  #finish(end: { status: string; code: number | null; signal: string | null; by: string }): void {
    const ms = Math.round(this.#around.clock.now() - this.#started);
    this.#end = { ...end, at: new Date().toISOString(), ms };
    this.stdin.end();
    this.#around.onEnd(this);
    this.changed.notify();
  }

  view() {
    const { stdout, stderr } = this.spools;
    const end = this.#end;
    return {
      exec_id: this.id,
      status: end?.status ?? "running",
      exit_code: end?.code ?? null,
      signal: end?.signal ?? null,
      ended_by: end?.by ?? null,
      oom_kills: end?.status === "oom_killed" ? 1 : 0,
      left_running: end === undefined ? 0 : this.#children,
      cwd: this.#around.cwd,
      tty: this.request.tty !== undefined,
      pid: this.#pid,
      started_at: this.#startedAt,
      ended_at: end?.at ?? null,
      duration_ms: end?.ms ?? Math.round(this.#around.clock.now() - this.#started),
      stdout_bytes: stdout.total,
      stderr_bytes: stderr.total,
      omitted_bytes: stdout.dropped + stderr.dropped,
      stdout_kept: stdout.kept,
      stderr_kept: stderr.kept,
    };
  }
}
